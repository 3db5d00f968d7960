"""L2 regularisation of the vectors that a batch looks up."""

# Shapes:  B batch, F fields, D_f width of field f's vector, W the sum of D_f

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class L2Penalty(nn.Module):
    """``sum_b w_b sum_f u_bf l2_f |v_bf|^2`` over the projected vectors ``v`` of a batch.

    Narrow and wide tables are regularised alike, since it is what the network sees that is kept
    small; and rows as often as they are read, but for the weights ``u``. Always in fp32.

    Args:
        fields: Names of the fields, in the order of their vectors.
        dims: ``D_f``.
        l2: Factor of all elements.
        bias: Factor of each vector's first element, where that is a bias; None where it is none.
        growth: How ``l2_f`` rises along a vector: ``l2 (1 + growth sqrt(k))`` for its element
            ``k``, biases not counted. An even penalty on both sides of a product is the trace
            norm, which shrinks strong directions too much and leaves their order open; a rising
            one spares them, and sorts them to the front, where narrow tables have their elements.
        by_field: Factors that multiply both, by field; 1 where not named.

    Raises:
        ValueError: If ``by_field`` names a field that does not exist.

    Shape:
        - Input: vectors ``(B, W)``; ``w``, examples' weights ``(B,)``; ``u``, lookups' weights
          ``(B, F)``, or None for 1.
        - Output: a scalar.
    """

    factors: Tensor
    """``(W, F)``: the factor of every element in its field's column."""

    def __init__(
        self,
        fields: Sequence[str],
        dims: Sequence[int],
        *,
        l2: float,
        bias: float | None = None,
        growth: float = 0.0,
        by_field: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        by_field = by_field or {}
        if unknown := sorted(set(by_field) - set(fields)):
            raise ValueError(
                f"l2_fields: {unknown} are not fields of the sizing plan, which has "
                f"{', '.join(fields)}"
            )
        blocks = []
        for name, dim in zip(fields, dims, strict=True):
            first = 0 if bias is None else 1
            block = torch.full((dim, 1), 0.0 if bias is None else bias)
            block[first:, 0] = l2 * (1 + growth * torch.arange(dim - first).sqrt())
            blocks.append(block * by_field.get(name, 1.0))
        self.register_buffer("factors", _block_diagonal(blocks), persistent=False)

    def forward(
        self, vectors: Tensor, example_weights: Tensor, lookup_weights: Tensor | None
    ) -> Tensor:
        """Penalise a batch."""
        by_field = vectors.float().square() @ self.factors  # (B, F)
        if lookup_weights is not None:
            by_field = by_field * lookup_weights
        return (by_field.sum(dim=1) * example_weights).sum()


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    diagonal: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return diagonal
