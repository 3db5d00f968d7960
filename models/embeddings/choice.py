"""What every choice of embeddings speaks of: a run's surroundings, and whose turn it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.tables import FieldStats, SizingPlan

if TYPE_CHECKING:
    import torch

_STRICT = ConfigDict(extra="forbid")

Pooling = Literal["sum", "mean"]
ProjectionInit = Literal["prefix", "orthogonal", "xavier", "identity"]
"""Start of a projection: the first ``d`` of ``D`` axes, a random rotation, or random weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What a run knows of its fields when it builds its embeddings."""

    plan: SizingPlan
    """The run's sizing plan, with the join of its network."""

    fields: Sequence[FieldStats] = ()
    """What the dataset says of all of its fields."""

    pooling: Mapping[str, Pooling] = field(default_factory=dict)
    """The list-valued fields, and how each is pooled."""

    projection_init: ProjectionInit = "prefix"
    """How projections start."""

    device: "torch.device | str | None" = None
    """Where tables are created; ``"meta"`` when a sharding plan follows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternation:
    """Whose turn it is: weights learn from training examples, architecture from others."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    weight_steps: int = 10
    """Steps of the weights between two of the architecture."""

    split: Literal["validation", "train"] = "validation"
    """What the architecture learns from: batches of the validation split in steps of their own, or
    every batch of the training split together with the weights."""

    lr: float = 1e-3
    """Learning rate of Adam for the architecture; it follows the schedule of the others."""

    pretrain_examples: int = 0
    """Examples that the weights learn from before the architecture moves for the first time."""

    step_size: float = 0.0
    """Length of the step of the weights that the architecture looks ahead by, DARTS' second order;
    0 for the first order, which takes the weights as they are. It needs tables that are no kernel's
    to move (data-parallel ones), and four passes over a batch."""

    def __post_init__(self) -> None:
        if self.weight_steps < 1:
            raise ValueError(f"weight_steps={self.weight_steps}, expected at least 1; try 10")
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}, expected a positive number; try 0.001")
        if not self.step_size >= 0:
            raise ValueError(f"step_size={self.step_size}, expected 0 or more; try the rate")
        if self.step_size and self.split == "train":
            raise ValueError(
                f"step_size={self.step_size} looks ahead of a step that split='train' takes "
                f"together with the weights; give 0, or split 'validation'"
            )
        if self.pretrain_examples < 0:
            raise ValueError(f"pretrain_examples={self.pretrain_examples}, expected 0 or more")

    def is_joint(self, num_examples: int) -> bool:
        """Whether the architecture moves in a step of the weights, after so many examples."""
        return self.split == "train" and num_examples >= self.pretrain_examples

    def is_due(self, step: int, num_examples: int) -> bool:
        """Whether a step of the architecture of its own follows so many steps and examples."""
        is_pretrained = num_examples > self.pretrain_examples
        return self.split != "train" and step % self.weight_steps == 0 and is_pretrained
