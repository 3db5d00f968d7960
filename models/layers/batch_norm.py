"""Batch normalisation without parameters, over the examples of all ranks."""

# Shapes:  B batch, G rows of an example that share statistics, C columns; F fields, K keys, Z width

import torch
from torch import Tensor, nn

from models.layers.moments import counted_examples, over_ranks

MOMENTUM = 0.1
EPSILON = 1e-5


class _Running(nn.Module):
    """Mean and variance that follow those of the batches."""

    mean: Tensor
    """Running, a number a column."""
    variance: Tensor
    """Running, unbiased."""

    def __init__(self, num_columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_columns))
        self.register_buffer("variance", torch.ones(num_columns))

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, num: Tensor) -> None:
        """Take in a batch of ``num`` values a column."""
        self.mean.lerp_(mean.flatten(), MOMENTUM)
        self.variance.lerp_((variance * num / (num - 1).clamp(min=1)).flatten(), MOMENTUM)


class ColumnNorm(_Running):
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

    def forward(self, columns: Tensor, weights: Tensor | None, *, follows: bool = True) -> Tensor:
        """Normalise; in training by this batch, which the running figures follow if they are to."""
        if not self.training:
            return (columns - self.mean) * torch.rsqrt(self.variance + EPSILON)
        counted = counted_examples(columns, weights)
        num = over_ranks(counted.sum().detach()) * columns.shape[1]
        mean = over_ranks((columns.sum(dim=1) * counted[:, None]).sum(dim=0)) / num
        centred = columns - mean
        squares = (centred.square().sum(dim=1) * counted[:, None]).sum(dim=0)
        variance = over_ranks(squares) / num
        if follows:
            self.follow(mean, variance, num)
        return centred * torch.rsqrt(variance + EPSILON)


class ProductNorm(_Running):
    """Batch normalisation of products with keys, before they are made: it scales the keys instead.

    Mean and variance of ``z . k`` over a batch are those of ``z`` multiplied with ``k``, so that
    normalised products are products too, with other keys: ``B G F K`` numbers need be neither held
    nor gone through. A statistic a key of a field, over the batch and the groups.

    Shape:
        - Input: points ``(B, F, G, Z)``, the last column of them 1; keys ``(F, G, K, Z)``; weights
          of examples ``(B,)``, 0 for those that only fill the batch up, or None.
        - Output: keys ``(F, G, K, Z)`` whose products with the points are normalised.
    """

    def __init__(self, num_fields: int, num_keys: int) -> None:
        super().__init__(num_fields * num_keys)

    def forward(self, points: Tensor, keys: Tensor, weights: Tensor | None) -> Tensor:
        """Normalise; in training by this batch, which the running figures follow."""
        if self.training:
            num, mean, variance = self._of_batch(points, keys, weights)
            self.follow(mean, variance, num)
        else:
            mean, variance = (own.view(len(keys), -1) for own in (self.mean, self.variance))
        slopes, starts = keys[..., :-1], keys[..., -1] - mean[:, None]
        scales = torch.rsqrt(variance + EPSILON)[:, None, :, None]  # (F, 1, K, 1)
        return torch.cat([slopes, starts[..., None]], dim=3) * scales

    @staticmethod
    def _of_batch(
        points: Tensor, keys: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Number of products of a key, and their mean and variance ``(F, K)``."""
        counted = counted_examples(points, weights)
        num = over_ranks(counted.sum().detach())
        centres = over_ranks(torch.einsum("b,bfgz->fgz", counted, points)) / num
        centred = points - centres
        weighted = centred * counted[:, None, None, None]
        covariances = over_ranks(torch.einsum("bfgy,bfgz->fgyz", weighted, centred)) / num
        of_groups = torch.einsum("fgz,fgkz->fgk", centres, keys)
        mean = of_groups.mean(dim=1)
        within = torch.einsum("fgky,fgyz,fgkz->fgk", keys, covariances, keys)
        variance = (within + (of_groups - mean[:, None]).square()).mean(dim=1)
        return num * points.shape[2], mean, variance.clamp(min=0)  # below by rounding alone
