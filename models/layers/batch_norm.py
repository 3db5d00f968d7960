"""Batch normalisation without parameters, over the examples of all ranks."""

# Shapes:  B batch, F fields, G groups that share statistics, K keys, Z width

import torch
from torch import Tensor, nn

from models.layers.moments import counted_examples, over_ranks

MOMENTUM = 0.1
EPSILON = 1e-5


class ProductNorm(nn.Module):
    """Batch normalisation of products with keys, before they are made: it scales the keys instead.

    Mean and variance of ``z . k`` over a batch are those of ``z`` multiplied with ``k``, so that
    normalised products are products too, with other keys: ``B G F K`` numbers need be neither held
    nor gone through. A statistic a key of a field, over the batch and the groups.

    Shape:
        - Input: points ``(B, F, G, Z)``, the last column of them 1; keys ``(F, G, K, Z)``; weights
          of examples ``(B,)``, 0 for those that only fill the batch up, or None.
        - Output: keys ``(F, G, K, Z)`` whose products with the points are normalised.

    Source:
        Ioffe and Szegedy, *Batch Normalization*, ICML 2015, arXiv:1502.03167.
    """

    mean: Tensor
    """Running, a number a key of a field."""
    variance: Tensor
    """Running, unbiased."""

    def __init__(self, num_fields: int, num_keys: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_fields * num_keys))
        self.register_buffer("variance", torch.ones(num_fields * num_keys))

    def forward(
        self, points: Tensor, keys: Tensor, weights: Tensor | None, *, follows: bool = True
    ) -> Tensor:
        """Normalise; in training by this batch, which the running figures follow if they are to."""
        if self.training:
            num, mean, variance = self._of_batch(points, keys, weights)
            if follows:
                self._follow(mean, variance, num)
        else:
            mean, variance = (own.view(len(keys), -1) for own in (self.mean, self.variance))
        slopes, starts = keys[..., :-1], keys[..., -1] - mean[:, None]
        scales = torch.rsqrt(variance + EPSILON)[:, None, :, None]  # (F, 1, K, 1)
        return torch.cat([slopes, starts[..., None]], dim=3) * scales

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, num: Tensor) -> None:
        """Take in a batch of ``num`` products a key."""
        self.mean.lerp_(mean.flatten(), MOMENTUM)
        self.variance.lerp_((variance * num / (num - 1).clamp(min=1)).flatten(), MOMENTUM)

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
