"""Batch normalisation without parameters, over the examples of all ranks."""

# Shapes:  B batch, G rows of an example that share statistics, C columns

import torch
from torch import Tensor, nn

from models.layers.moments import over_ranks

MOMENTUM = 0.1
EPSILON = 1e-5


class ColumnNorm(nn.Module):
    """Batch normalisation without scale and shift: a statistic a column, over batch and rows.

    The ranks of a job normalise as one, each by the number of its examples, so that a batch means
    the same on 1 rank as on 8; torch's ``SyncBatchNorm`` does that on GPUs only.

    Shape:
        - Input: ``(B, G, C)``; weights of examples ``(B,)``, 0 for those that only fill the batch
          up, or None.
        - Output: as the input.

    Source:
        Ioffe and Szegedy, *Batch Normalization*, ICML 2015, arXiv:1502.03167.
    """

    mean: Tensor
    """Running, ``(C,)``."""
    variance: Tensor
    """Running, unbiased, ``(C,)``."""

    def __init__(self, num_columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_columns))
        self.register_buffer("variance", torch.ones(num_columns))

    def forward(self, columns: Tensor, weights: Tensor | None, *, follows: bool = True) -> Tensor:
        """Normalise; in training by this batch, which the running figures follow if they are to."""
        if not self.training:
            return (columns - self.mean) * torch.rsqrt(self.variance + EPSILON)
        counted = columns.new_ones(len(columns)) if weights is None else (weights > 0).to(columns)
        num = over_ranks(counted.sum().detach()) * columns.shape[1]
        mean = over_ranks((columns.sum(dim=1) * counted[:, None]).sum(dim=0)) / num
        centred = columns - mean
        squares = (centred.square().sum(dim=1) * counted[:, None]).sum(dim=0)
        variance = over_ranks(squares) / num
        if follows:
            with torch.no_grad():
                self.mean.lerp_(mean, MOMENTUM)
                self.variance.lerp_(variance * num / (num - 1).clamp(min=1), MOMENTUM)
        return centred * torch.rsqrt(variance + EPSILON)
