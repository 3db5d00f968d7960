"""Mean and covariance of vectors over the examples of all ranks."""

# Shapes:  B batch, F fields, S width

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.nn.functional import all_reduce


class Moments(NamedTuple):
    """What normalisation needs to know of vectors."""

    num: Tensor
    """How many vectors there are, a scalar."""
    mean: Tensor
    """``(S,)``."""
    covariance: Tensor
    """``(S, S)``; of these vectors, not an estimate for others."""


def pooled_moments(vectors: Tensor, weights: Tensor | None) -> Moments:
    """Moments over batch and fields; gradients pass through, those of other ranks too.

    The ranks of a job count as one batch, each by the number of its examples. (torch's
    ``SyncBatchNorm`` does that on GPUs only.)

    Shape:
        - Input: ``(B, F, S)``; weights of examples ``(B,)``, 0 for those that only fill the batch
          up, or None.
    """
    counted = counted_examples(vectors, weights)
    return Moments(*_PooledMoments.apply(vectors, counted))  # type: ignore[no-untyped-call]


class _PooledMoments(torch.autograd.Function):
    """Gradients by hand, in half the passes over the batch that are recorded step by step.

    ``C`` is symmetric, and deviations add up to 0, so that the mean in it needs no gradient::

        dL/dx = (dL/dmean + (dL/dC + dL/dC') (x - mean)) / num
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, num_fields, width = vectors.shape
        of_examples = counted @ vectors.reshape(batch, -1)  # (F * S,)
        summed = of_examples.reshape(num_fields, width).sum(dim=0)
        totals = over_ranks(torch.cat([summed, num_fields * counted.sum()[None]]))
        num, mean = totals[-1], totals[:-1] / totals[-1]
        centred = ((vectors - mean) * counted[:, None, None]).flatten(0, 1)  # (B * F, S)
        covariance = over_ranks(centred.T @ centred) / num
        ctx.save_for_backward(centred, counted, num)
        ctx.mark_non_differentiable(num)
        return num, mean, covariance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, of_mean: Tensor, of_covariance: Tensor) -> Any:
        centred, counted, num = ctx.saved_tensors
        both_sides = of_covariance + of_covariance.T
        gradients = over_ranks(torch.cat([both_sides, of_mean[None]])) / num  # (S + 1, S)
        found = (centred @ gradients[:-1]).reshape(len(counted), -1, len(of_mean))
        return found.addcmul_(counted[:, None, None], gradients[-1]), None


def counted_examples(batch: Tensor, weights: Tensor | None) -> Tensor:
    """1 for every example ``(B,)``, 0 for those of no weight, which only fill the batch up."""
    return batch.new_ones(len(batch)) if weights is None else (weights > 0).to(batch)


def over_ranks(values: Tensor) -> Tensor:
    """Sum over all ranks, through which gradients find their way back to each of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return total
