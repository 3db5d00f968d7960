"""Dropout whose noise follows from the step, so that a run that is resumed draws what it would."""

import torch
import torch.distributed as dist
import torch.fx
from torch import Tensor

from models.turn import TakesTurns


class Dropout(TakesTurns):
    """Leave out a share of the units in training, and scale the others so that means stay.

    `torch.nn.Dropout` draws from the process' own generator, of which a run that is killed and goes
    on knows nothing. Here seed, step, place and rank decide: the ranks of a job leave out different
    units, so a training on two ranks is not, to the digit, the one on one rank.

    Args:
        share: Of the units, ``[0, 1)``.
        place: Which of a network's dropouts this is.

    Raises:
        ValueError: If the share is out of bounds.

    Shape:
        - Input and output: ``(..., units)``.

    Source:
        Srivastava et al., *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*, JMLR
        15, 2014.
    """

    def __init__(self, share: float, *, place: int = 0) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"dropout={share}, expected in [0, 1); try 0.2")
        self.share, self.place = share, place

    def forward(self, units: Tensor) -> Tensor:
        """Leave out units in training; all stay in evaluation."""
        if not self.training:
            return units
        rank = dist.get_rank() if dist.is_initialized() else 0
        return _left_out(units, self.share, self.turn.seed_of(self.place, rank))


@torch.fx.wrap  # TorchRec's pipeline traces networks whose MLPs fold, and has no device to ask for
def _left_out(units: Tensor, share: float, seed: int) -> Tensor:
    generator = torch.Generator(units.device).manual_seed(seed)
    noise = torch.rand(units.shape, generator=generator, device=units.device)
    return units * (noise >= share) / (1 - share)
