"""Neural collaborative filtering: an MLP on the concatenated fields."""

# Shapes:  B batch, D_f width of field f's vector, I dense inputs

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from models.base import Axis, CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.layers.mlp import MLP
from models.tables import Join


class NCF(CtrModel):
    """The MLP tower of NCF: fields side by side, each as wide as its table, then ReLU layers.

    The mixed-dimension paper's choice of three hidden layers of 128. Users and items are the usual
    two fields; further fields and dense inputs enter beside them.

    Args:
        embeddings: Turns features into fields of any widths.
        num_dense: ``I``.
        hidden: Hidden layers.
        dropout: Share of the hidden units that a step of training leaves out.

    Source:
        He et al., *Neural Collaborative Filtering*, WWW 2017, arXiv:1708.05031; layers of Ginart et
        al., *Mixed Dimension Embeddings*, ISIT 2021, arXiv:1909.11810.
    """

    join: ClassVar[Join] = "concatenate"

    def __init__(
        self,
        embeddings: FieldEmbeddings,
        num_dense: int,
        *,
        hidden: Sequence[int] = (128, 128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embeddings, num_dense)
        num_inputs = sum(embeddings.field_dims) + num_dense
        self.layers = MLP(num_inputs, [*hidden, 1], dropout=dropout)

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """The layers that read fields side by side."""
        return {"layers.0.weight": ("plain", "fields")}

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:
        """Score a batch."""
        inputs = torch.cat([fields.columns, dense], dim=1)
        logits: Tensor = self.layers.folded(inputs, fields.folded).squeeze(1)
        return logits
