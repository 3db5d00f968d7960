"""Batch normalisation without parameters, over the examples of all ranks."""

# Shapes:  B batch, F fields, D width, N normalisations side by side

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

MOMENTUM = 0.1
EPSILON = 1e-5


class PooledNorms(nn.Module):
    """``N`` batch normalisations without scale and shift, each over batch and fields.

    One statistic a column: a field that says the same of a whole batch is not normalised away. The
    ranks of a job normalise as one, each by the number of its examples, so that a batch means the
    same on 1 rank as on 8; torch's ``SyncBatchNorm`` does that on GPUs only.

    Args:
        widths: Columns of each normalisation.

    Shape:
        - Input: ``N`` tensors ``(B, F, D_n)``; weights of examples ``(B,)``, 0 for those that only
          fill the batch up, or None.
        - Output: as the input.

    Source:
        Ioffe and Szegedy, *Batch Normalization*, ICML 2015, arXiv:1502.03167.
    """

    mean: Tensor
    """Running, ``(sum of D_n,)``."""
    variance: Tensor
    """Running, unbiased, ``(sum of D_n,)``."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths
        self.register_buffer("mean", torch.zeros(sum(widths)))
        self.register_buffer("variance", torch.ones(sum(widths)))

    def forward(
        self, inputs: list[Tensor], weights: Tensor | None, *, follows: bool
    ) -> list[Tensor]:
        """Normalise; in training by this batch, which the running figures follow if asked to."""
        columns = torch.cat(inputs, dim=2)  # (B, F, sum of D_n)
        if not self.training:
            normalised = (columns - self.mean) * torch.rsqrt(self.variance + EPSILON)
            return list(torch.split(normalised, self.widths, dim=2))
        batch, num_fields, _ = columns.shape
        counted = columns.new_ones(batch) if weights is None else (weights > 0).to(columns.dtype)
        num = _over_ranks(counted.sum().detach()) * num_fields
        mean = _over_ranks((columns.sum(dim=1) * counted[:, None]).sum(dim=0)) / num
        centred = columns - mean
        squares = (centred.square().sum(dim=1) * counted[:, None]).sum(dim=0)
        variance = _over_ranks(squares) / num
        if follows:
            with torch.no_grad():
                self.mean.lerp_(mean, MOMENTUM)
                self.variance.lerp_(variance * num / (num - 1).clamp(min=1), MOMENTUM)
        normalised = centred * torch.rsqrt(variance + EPSILON)
        return list(torch.split(normalised, self.widths, dim=2))


def _over_ranks(values: Tensor) -> Tensor:
    """Sum over all ranks, through which gradients find their way back to each of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return total
