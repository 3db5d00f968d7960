"""Mean and covariance of vectors over the examples of all ranks."""

# Shapes:  B batch, F fields, S width

from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor
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
    num_fields = vectors.shape[1]
    if weights is not None:
        counted = (weights > 0).to(vectors.dtype)
        vectors = vectors * counted[:, None, None]
        num_examples = counted.sum().detach()
    else:
        counted = vectors.new_ones(len(vectors))
        num_examples = vectors.new_tensor(len(vectors))
    num = over_ranks(num_examples) * num_fields
    mean = over_ranks(vectors.sum(dim=(0, 1))) / num
    centred = (vectors - counted[:, None, None] * mean).flatten(0, 1)  # (B * F, S)
    covariance = over_ranks(centred.T @ centred) / num
    return Moments(num, mean, covariance)


def over_ranks(values: Tensor) -> Tensor:
    """Sum over all ranks, through which gradients find their way back to each of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return total
