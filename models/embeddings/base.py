"""The form every set of embeddings has: features in, one vector a field out."""

# Shapes:  B batch, F fields, D out_dim, D_f width of field f's vector

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor


class FieldEmbeddings(nn.Module, ABC):
    """What every model is handed: looks up, pools and brings the fields side by side.

    Attributes:
        field_names: The fields in the order of the output.
        field_dims: ``D_f``; all ``out_dim`` where the model needs equal widths.
        out_dim: ``D``, the widest of them.
    """

    field_names: tuple[str, ...]
    field_dims: tuple[int, ...]
    out_dim: int

    @abstractmethod
    def forward(self, features: KeyedJaggedTensor) -> Tensor:
        """Turn a batch of ids into vectors.

        Shape:
            - Input: a `KeyedJaggedTensor` of batch size ``B``, one key a table.
            - Output: ``(B, sum of D_f)``.
        """

    def num_bytes(self) -> int:
        """Bytes of all weights, tables and projections, as they are allocated."""
        return sum(weight.numel() * weight.element_size() for weight in self.parameters())
