"""The seam between ids and networks: one vector of ``out_dim`` elements per field and example."""

# Shapes:  B batch, F fields, D out_dim

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor


class FieldEmbeddings(nn.Module, ABC):
    """What every model is handed: looks up, pools and unifies the fields.

    Attributes:
        field_names: The fields in the order of the output's second axis.
        out_dim: ``D``, the width of every field in the output.
    """

    field_names: tuple[str, ...]
    out_dim: int

    @abstractmethod
    def forward(self, features: KeyedJaggedTensor) -> Tensor:
        """Turn a batch of ids into vectors.

        Shape:
            - Input: a `KeyedJaggedTensor` of batch size ``B``, one key a table.
            - Output: ``(B, F, D)``.
        """

    def num_bytes(self) -> int:
        """Bytes of all weights, tables and projections, as they are allocated."""
        return sum(weight.numel() * weight.element_size() for weight in self.parameters())
