"""Matrix factorization: the dot of two fields, with or without a bias of each."""

# Shapes:  B batch, D out_dim

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from models.base import Axis, CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors

Biases = Literal["column", "direction", "none"]


class MF(CtrModel):
    """``mean + b_u + b_i + <e_u, e_i>`` for the two fields of the plan; the task adds the mean.

    Biases are part of the id's own vector, so that a wide table carries them and no bytes lie
    outside of the plan.

    Args:
        embeddings: Turns features into two fields ``D`` wide.
        num_dense: Ignored; factorization has no dense inputs.
        biases: ``column``: the first element, which is left out of the dot; ``direction``: a
            learned direction of the vector, all of which stays in the dot; ``none``: no biases, the
            recipe of the mixed-dimension paper.

    Raises:
        ValueError: If the plan has not exactly two fields.

    Source:
        Koren et al., *Matrix Factorization Techniques for Recommender Systems*, Computer 2009.
    """

    def __init__(
        self, embeddings: FieldEmbeddings, num_dense: int, *, biases: Biases = "column"
    ) -> None:
        super().__init__(embeddings, num_dense)
        check_pair("mf", embeddings)
        self.has_bias_column = biases == "column"
        self.biases = nn.Linear(2 * embeddings.out_dim, 1) if biases == "direction" else None

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """The layers that read fields side by side."""
        return {"biases.weight": ("plain", "fields")}

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:  # noqa: ARG002
        """Score a batch."""
        user, item = self.stacked(fields).unbind(1)
        if self.has_bias_column:
            return dot_and_biases(user, item)
        dots = (user * item).sum(dim=1)
        return dots if self.biases is None else dots + self.biases(fields.side_by_side).squeeze(1)


def dot_and_biases(user: Tensor, item: Tensor) -> Tensor:
    """``b_u + b_i + <e_u, e_i>``, where column 0 is the bias and the others are the factors.

    Shape:
        - Input: ``(B, D)`` each.
        - Output: ``(B,)``.
    """
    return user[:, 0] + item[:, 0] + (user[:, 1:] * item[:, 1:]).sum(dim=1)


def check_pair(model: str, embeddings: FieldEmbeddings) -> None:
    """Refuse embeddings of other than two fields.

    Args:
        model: Its name, as a user chose it.
        embeddings: What it is to multiply.

    Raises:
        ValueError: If there are fewer or more than two fields.
    """
    names = embeddings.field_names
    if len(names) != 2:
        raise ValueError(
            f"{model} multiplies two fields, the sizing plan has {len(names)} "
            f"({', '.join(names)}); name two: mixdim size --fields A B"
        )
