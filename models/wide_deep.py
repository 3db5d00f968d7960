"""Wide & Deep: a linear model and an MLP, added up and trained together."""

# Shapes:  B batch, D_f width of field f's vector, I dense inputs

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from models.base import Axis, CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.layers.linear import Linear
from models.layers.mlp import MLP
from models.tables import Join


class WideDeep(CtrModel):
    """A linear term of every id and dense input, and an MLP on the fields side by side.

    The wide weight of an id is a learned direction of its embedding: the paper's sparse linear
    model would be tables of width 1, bytes outside of the plan. The paper's cross products are
    columns of the data; prepare them as fields.

    Args:
        embeddings: Turns features into fields of any widths.
        num_dense: ``I``; dense inputs enter both parts.
        hidden: Hidden layers of the deep part.
        dropout: Share of the hidden units that a step of training leaves out.

    Source:
        Cheng et al., *Wide & Deep Learning for Recommender Systems*, DLRS 2016, arXiv:1606.07792.
    """

    join: ClassVar[Join] = "concatenate"

    def __init__(
        self,
        embeddings: FieldEmbeddings,
        num_dense: int,
        *,
        hidden: Sequence[int] = (1024, 512, 256),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embeddings, num_dense)
        num_inputs = sum(embeddings.field_dims) + num_dense
        self.wide = Linear(num_inputs, 1)
        self.deep = MLP(num_inputs, [*hidden, 1], dropout=dropout)

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """The layers that read fields side by side."""
        return {f"{name}.weight": ("plain", "fields") for name in ("wide", "deep.0")}

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:
        """Score a batch."""
        inputs = torch.cat([fields.columns, dense], dim=1)
        wide = self.wide.folded(inputs, fields.folded)
        deep = self.deep.folded(inputs, fields.folded)
        logits: Tensor = (wide + deep).squeeze(1)
        return logits
