"""The seam every network stands behind."""

# Shapes:  B batch, I dense inputs, F fields, D out_dim, D_f width of field f's vector

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.tables import Join

Axis = Literal["plain", "fields", "dots", "vector", "factors"]
"""What an axis of a weight counts.

``plain``: what the network's own sizes say. ``fields``: it reads all fields side by side, and what
is behind them. ``dots``: it reads a vector of ``D`` elements, then the dots of all pairs of it and
the fields. ``vector``, ``factors``: it makes a vector of ``D`` elements; factors meet each other.
"""


class CtrModel(nn.Module, ABC):
    """A network from dense inputs and categorical features to one logit an example.

    Args:
        embeddings: Turns features into vectors of fields; the model does not care how.
        num_dense: ``I``; 0 for data without dense columns.

    Raises:
        ValueError: If the model needs equally wide fields and the embeddings are not.
    """

    join: ClassVar[Join] = "project"
    """Whether the fields must be equally wide."""

    has_bias_column: bool = False
    """Whether the first element of a field's vector is its bias, and no factor."""

    y_range: tuple[float, float] | None = None
    """Bounds of the ratings that scores stand for: scores are then their log odds between the two,
    and whoever turns scores into predictions applies the sigmoid. None for unbounded ratings."""

    is_turnable: ClassVar[bool] = True
    """Whether a rotation of the vectors, which layers that read them make up for, leaves what the
    network says as it was; False where single coordinates of a vector have a meaning."""

    def __init__(self, embeddings: FieldEmbeddings, num_dense: int) -> None:
        super().__init__()
        if self.join == "project" and len(set(embeddings.field_dims)) > 1:
            raise ValueError(
                f"{type(self).__name__} needs equally wide fields, the embeddings' widths are "
                f"{sorted(set(embeddings.field_dims))}; build them with join='project'"
            )
        self.embeddings = embeddings
        self.num_dense = num_dense

    def forward(self, dense: Tensor, features: KeyedJaggedTensor) -> Tensor:
        """Score a batch.

        Shape:
            - Input: ``dense`` ``(B, I)``; ``features`` of batch size ``B``.
            - Output: logits ``(B,)``; for rating data the rating itself, or its log odds within
              ``y_range``. All count from the constant that the task adds.
        """
        return self.score(dense, self.embeddings(features))

    @abstractmethod
    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:
        """Score a batch whose fields are looked up.

        Shape:
            - Input: ``dense`` ``(B, I)``; ``fields`` of batch size ``B``.
            - Output: ``(B,)``.
        """

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """The weights, tables and projections aside, whose shape depends on the plan, by name."""
        return {}

    def stacked(self, fields: FieldVectors) -> Tensor:
        """Fields of equal width as ``(B, F, D)``."""
        shape = len(self.embeddings.field_names), self.embeddings.out_dim
        return fields.side_by_side.view(-1, *shape)
