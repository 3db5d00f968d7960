"""DeepFM: a factorization machine and a deep network that share their embeddings."""

# Shapes:  B batch, F fields, D out_dim, I dense inputs

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.base import Axis, CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.fm import pairwise_interactions
from models.layers.linear import Linear
from models.layers.mlp import MLP


class DeepFM(CtrModel):
    """First-order terms, pairwise interactions and an MLP, added up.

    The first-order weight of an id is a learned direction of its own embedding: the paper's
    separate table of width 1 is beyond fused kernels, and would be bytes outside of the plan.

    Args:
        embeddings: Turns features into fields ``D`` wide.
        num_dense: ``I``; dense inputs enter the first-order terms and the deep part.
        hidden: Hidden layers of the deep part.
        dropout: Share of the hidden units that a step of training leaves out.

    Source:
        Guo et al., *DeepFM: A Factorization-Machine based Neural Network for CTR Prediction*,
        IJCAI 2017, arXiv:1703.04247.
    """

    def __init__(
        self,
        embeddings: FieldEmbeddings,
        num_dense: int,
        *,
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embeddings, num_dense)
        num_inputs = len(embeddings.field_names) * embeddings.out_dim + num_dense
        self.first_order = Linear(num_inputs, 1)
        self.deep = MLP(num_inputs, [*hidden, 1], dropout=dropout)

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """The layers that read fields side by side."""
        return {f"{name}.weight": ("plain", "fields") for name in ("first_order", "deep.0")}

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:
        """Score a batch."""
        inputs = torch.cat([fields.columns, dense], dim=1)
        first = self.first_order.folded(inputs, fields.folded)
        deep = self.deep.folded(inputs, fields.folded)
        total, squares = fields.sum_and_squares(self.embeddings.out_dim)
        logits: Tensor = (first + deep).squeeze(1) + pairwise_interactions(total, squares)
        return logits
