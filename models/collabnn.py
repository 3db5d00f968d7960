"""fastbook's CollabNN: one hidden layer on concatenated embeddings of fastai's widths."""

# Shapes:  B batch, D_f width of field f's vector, I dense inputs

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from models.base import Axis, CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.layers.mlp import MLP
from models.tables import Join


class CollabNN(CtrModel):
    """``Linear -> ReLU -> Linear`` on the fields side by side, as log odds within ``y_range``.

    Args:
        embeddings: Turns features into fields of any widths; the book's are fastai's rule.
        num_dense: ``I``; 0 in the book.
        num_hidden: Width of the hidden layer.
        y_range: Bounds of the ratings; a little wider than the ratings, which a sigmoid never
            reaches. None for clicks and for unbounded ratings.
        dropout: Share of the hidden units that a step of training leaves out.

    Source:
        Howard and Gugger, *Deep Learning for Coders with fastai and PyTorch*, O'Reilly 2020,
        chapter 8.
    """

    join: ClassVar[Join] = "concatenate"

    def __init__(
        self,
        embeddings: FieldEmbeddings,
        num_dense: int,
        *,
        num_hidden: int = 100,
        y_range: tuple[float, float] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embeddings, num_dense)
        num_inputs = sum(embeddings.field_dims) + num_dense
        self.layers = MLP(num_inputs, [num_hidden, 1], dropout=dropout)
        self.y_range = y_range

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """The layers that read fields side by side."""
        return {"layers.0.weight": ("plain", "fields")}

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:
        """Score a batch."""
        inputs = torch.cat([fields.columns, dense], dim=1)
        logits: Tensor = self.layers.folded(inputs, fields.folded).squeeze(1)
        return logits
