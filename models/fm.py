"""Factorization machine: a linear term and the dots of all pairs of features."""

# Shapes:  B batch, F fields, D out_dim, I dense inputs

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.base import Axis, CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.layers.linear import Linear


class FM(CtrModel):
    """``w_0 + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j`` over all ids and dense inputs.

    An id has ``x_i = 1``, its looked-up vector is ``v_i`` and its ``w_i`` a learned direction of
    it: the paper's separate weights would be tables of width 1, bytes outside of the plan. A dense
    input has weights of its own, ``v_i`` included. The ids of a list enter as their pooled vector.

    Args:
        embeddings: Turns features into fields ``D`` wide.
        num_dense: ``I``.

    Source:
        Rendle, *Factorization Machines*, ICDM 2010.
    """

    def __init__(self, embeddings: FieldEmbeddings, num_dense: int) -> None:
        super().__init__(embeddings, num_dense)
        width = embeddings.out_dim
        self.linear = Linear(sum(embeddings.field_dims) + num_dense, 1)
        self.dense_factors = nn.Parameter(torch.empty(num_dense, width)) if num_dense else None
        if self.dense_factors is not None:
            nn.init.normal_(self.dense_factors, std=0.01)

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """The layers that read fields side by side."""
        return {"linear.weight": ("plain", "fields"), "dense_factors": ("plain", "factors")}

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:
        """Score a batch."""
        total, squares = fields.sum_and_squares(self.embeddings.out_dim)
        if self.dense_factors is not None:
            vectors = dense.unsqueeze(2) * self.dense_factors  # (B, I, D)
            total, squares = total + vectors.sum(dim=1), squares + vectors.square().sum(dim=(1, 2))
        inputs = torch.cat([fields.columns, dense], dim=1)
        linear = self.linear.folded(inputs, fields.folded).squeeze(1)
        logits: Tensor = linear + pairwise_interactions(total, squares)
        return logits


def pairwise_interactions(total: Tensor, squares: Tensor) -> Tensor:
    """Sum of the dots of all pairs of vectors, in time linear in their number.

    ``sum_{i<j} <v_i, v_j> = 1/2 (|sum_i v_i|^2 - sum_i |v_i|^2)``

    Args:
        total: Sum of the vectors, ``(B, D)``.
        squares: Sum of all their squared elements, ``(B,)``.
    """
    return 0.5 * (total.square().sum(dim=1) - squares)
