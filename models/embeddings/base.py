"""The form every set of embeddings has: features in, one vector a field out."""

# Shapes:  B batch, D out_dim, D_f width of field f's vector

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torchrec import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.vectors import FieldVectors
from models.turn import TakesTurns


class FieldEmbeddings(TakesTurns, ABC):
    """What every model is handed: looks up, pools and brings the fields side by side.

    `TrainPipelineSparseDist` traces ``forward`` with stand-ins for tensors. What looks into them,
    or chooses by their values, belongs into a module of its own that holds no tables.

    All parameters must have a part in every loss, if only times 0: ranks wait for all gradients.

    Attributes:
        field_names: The fields in the order of the output.
        field_dims: ``D_f``; all ``out_dim`` where the model needs equal widths.
        out_dim: ``D``, the widest of them.
        tables: The only collection of tables, those of the choice's ``layout``.
    """

    architecture: ClassVar[tuple[str, ...]] = ()
    """Parameters by name that decide what becomes of tables, and have steps of their own."""

    field_names: tuple[str, ...]
    field_dims: tuple[int, ...]
    out_dim: int
    tables: EmbeddingBagCollection

    @abstractmethod
    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:
        """Turn a batch of ids into vectors.

        Shape:
            - Input: a `KeyedJaggedTensor` of batch size ``B``, one key a table; what the
              examples count in the loss, a sum, ``(B,)``: 0 for those that only fill the batch up;
              None where it is their mean.
            - Output: of every field a vector ``(B, D_f)``; ``FieldVectors(tensor)`` of them side
              by side is enough.
        """

    def look_up(self, features: KeyedJaggedTensor) -> KeyedTensor:
        """The pooled vectors of all tables; of tables that are not to move, without gradients.

        Fused kernels apply their optimizer in every backward pass that reaches them.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.turn.moves_weights):
            pooled: KeyedTensor = self.tables(features)
            if not self.turn.moves_weights:
                pooled.values()  # waits here: what arrives with gradients on wants them back
            return pooled

    def objective(self, loss: Tensor) -> Tensor:
        """What training minimises, given the loss of the batch that was looked up last."""
        return loss

    def num_bytes(self) -> int:
        """Bytes of all weights, tables and projections, as they are allocated."""
        return sum(weight.numel() * weight.element_size() for weight in self.parameters())
