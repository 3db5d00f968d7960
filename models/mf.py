"""Biased matrix factorization: the dot of two fields, their biases and the mean."""

# Shapes:  B batch, D out_dim

from torch import Tensor, nn

from models.base import CtrModel
from models.embeddings.base import FieldEmbeddings


class MF(CtrModel):
    """``mean + b_u + b_i + <e_u, e_i>`` for the two fields of the plan.

    A bias is a learned direction of the id's own vector, so that a wide table carries it as one of
    its columns and no bytes lie outside of the plan.

    Args:
        embeddings: Turns features into two fields ``D`` wide.
        num_dense: Ignored; factorization has no dense inputs.

    Raises:
        ValueError: If the plan has not exactly two fields.

    Source:
        Koren et al., *Matrix Factorization Techniques for Recommender Systems*, Computer 2009.
    """

    def __init__(self, embeddings: FieldEmbeddings, num_dense: int) -> None:
        super().__init__(embeddings, num_dense)
        if len(embeddings.field_names) != 2:
            raise ValueError(
                f"mf multiplies two fields, the sizing plan has {len(embeddings.field_names)} "
                f"({', '.join(embeddings.field_names)}); name two: mixdim size --fields A B"
            )
        self.biases = nn.Linear(2 * embeddings.out_dim, 1)

    def score(self, dense: Tensor, fields: Tensor) -> Tensor:  # noqa: ARG002
        """Score a batch."""
        biases = self.biases(fields).squeeze(1)
        first, second = self.stacked(fields).unbind(1)
        logits: Tensor = biases + (first * second).sum(dim=1)
        return logits
