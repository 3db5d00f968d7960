"""Dot products of all pairs of vectors, with half of the plain backward pass."""

# Shapes:  B batch, N vectors, D width, P = N (N - 1) / 2 pairs

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class PairwiseDots(nn.Module):
    """Dot products of all pairs of ``N`` vectors, each pair once.

    The product ``X X^T`` is symmetric, so its gradient is one batched matmul with a symmetric
    matrix, read straight from the gradient of the pairs; autograd would take two, after scattering
    the pairs into zeros. On CPU that step is a tenth of a DLRM.

    On CPU the dots are fp32 under bf16 autocast too: picking pairs out of bf16 is slower than the
    faster matmul gains.

    Args:
        num_vectors: ``N``, at least 2.

    Raises:
        ValueError: If there are no pairs.

    Shape:
        - Input: ``(B, N, D)``.
        - Output: ``(B, P)``, in the row order of the upper triangle.
    """

    pairs: Tensor
    """``(P,)``: position of every pair in the flattened ``(N, N)`` product."""

    mirror: Tensor
    """``(N * N,)``: pair at every position of the product; ``P`` on the diagonal."""

    def __init__(self, num_vectors: int) -> None:
        super().__init__()
        if num_vectors < 2:
            raise ValueError(f"num_vectors={num_vectors}, expected at least 2 to have a pair")
        row, column = torch.triu_indices(num_vectors, num_vectors, offset=1)
        mirror = torch.full((num_vectors, num_vectors), len(row))
        mirror[row, column] = mirror[column, row] = torch.arange(len(row))
        self.register_buffer("pairs", row * num_vectors + column, persistent=False)
        self.register_buffer("mirror", mirror.flatten(), persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Multiply all with all, keep the triangle."""
        device_type = vectors.device.type
        if device_type == "cpu":
            vectors = vectors.float() if vectors.dtype == torch.bfloat16 else vectors
        is_mixed = device_type != "cpu" and torch.is_autocast_enabled(device_type)
        with torch.autocast(device_type, enabled=is_mixed):
            dots: Tensor = _Dots.apply(vectors, self.pairs, self.mirror)  # type: ignore[no-untyped-call]
        return dots


class _Dots(torch.autograd.Function):
    """Upper triangle of ``X X^T``."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, pairs: Tensor, mirror: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, mirror)
        products = torch.bmm(vectors, vectors.transpose(1, 2))  # (B, N, N)
        return products.flatten(1).index_select(1, pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        vectors, mirror = ctx.saved_tensors
        num_vectors = vectors.shape[1]
        with_zero = torch.cat([grad, grad.new_zeros(len(grad), 1)], dim=1)  # for the diagonal
        symmetric = with_zero.index_select(1, mirror).view(-1, num_vectors, num_vectors)
        return torch.bmm(symmetric.to(vectors.dtype), vectors), None, None
