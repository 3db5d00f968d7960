"""Whose turn it is in training, heard by all modules whose steps are not all alike."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What a step of training is about to move, and how far training is."""

    moves_weights: bool = True
    """Whether tables and layers move; else they keep values and optimizer state to the bit."""
    moves_architecture: bool = False
    is_regularised: bool = True
    """Whether the penalty of vectors is minimised with the loss. What becomes of tables is to be
    judged by the loss of examples that they have not learned from, and by nothing else."""
    step: int = 0
    """Steps of the weights before this one."""
    num_examples: int = 0
    """Examples of all ranks that the weights have learned from before this step."""
    seed: int = 0
    """Of the run."""

    def generator(self) -> torch.Generator:
        """Noise of this step: the same in a run that is resumed, and on all ranks."""
        return torch.Generator().manual_seed(self.seed_of())

    def seed_of(self, *place: int) -> int:
        """Seed of a step's noise.

        Args:
            place: Numbers that tell this noise from others of the step.
        """
        entropy = np.random.SeedSequence([self.seed, self.step, self.moves_architecture, *place])
        return int(entropy.generate_state(1, np.uint64)[0] >> 1)


class TakesTurns(nn.Module):
    """A module that hears before every step of training which one it is, see `announce`.

    Attributes:
        turn: What the step that is being made moves; not to be looked at in evaluation, when
            ``training`` is False.
    """

    turn: Turn = Turn()

    def take_turn(self, turn: Turn) -> None:
        """Hear what the next step moves."""
        self.turn = turn


def announce(turn: Turn, model: nn.Module) -> None:
    """Tell all of a model's modules that take turns, inner ones too, which step comes."""
    for module in model.modules():
        if isinstance(module, TakesTurns):
            module.take_turn(turn)
