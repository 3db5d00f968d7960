"""The seam every network stands behind."""

# Shapes:  B batch, I dense inputs

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings.base import FieldEmbeddings


class CtrModel(nn.Module, ABC):
    """A network from dense inputs and categorical features to one logit an example.

    Args:
        embeddings: Turns features into ``(B, F, D)``; the model does not care how.
        num_dense: ``I``; 0 for data without dense columns.
    """

    def __init__(self, embeddings: FieldEmbeddings, num_dense: int) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.num_dense = num_dense

    @abstractmethod
    def forward(self, dense: Tensor, features: KeyedJaggedTensor) -> Tensor:
        """Score a batch.

        Shape:
            - Input: ``dense`` ``(B, I)``; ``features`` of batch size ``B``.
            - Output: logits ``(B,)``; for rating data the rating itself.
        """
