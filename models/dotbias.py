"""fastai's EmbeddingDotBias: the dot of a user and an item, and a bias of each."""

# Shapes:  B batch, D out_dim

from torch import Tensor

from models.base import CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.mf import check_pair, dot_and_biases


class DotBias(CtrModel):
    """``b_u + b_i + <e_u, e_i>``, as log odds within ``y_range`` where that is given.

    Column 0 of a vector is its bias, the others are its factors: 50 factors are tables of width
    51, with the parameters of fastai's four tables and nothing else. Projections of narrow tables
    that start as the identity keep the bias in its column.

    Args:
        embeddings: Turns features into two fields ``D`` wide.
        num_dense: Ignored; factorization has no dense inputs.
        y_range: Bounds of the ratings; a little wider than the ratings, which a sigmoid never
            reaches. None for clicks and for unbounded ratings.

    Raises:
        ValueError: If the plan has not exactly two fields.

    Source:
        Howard and Gugger, *Deep Learning for Coders with fastai and PyTorch*, O'Reilly 2020,
        chapter 8.
    """

    has_bias_column = True

    def __init__(
        self,
        embeddings: FieldEmbeddings,
        num_dense: int,
        *,
        y_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(embeddings, num_dense)
        check_pair("dotbias", embeddings)
        self.y_range = y_range

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:  # noqa: ARG002
        """Score a batch."""
        user, item = self.stacked(fields).unbind(1)
        return dot_and_biases(user, item)
