"""Two tables a field, read by quotients and by remainders of its ids."""

# Shapes:  B batch, D_f width of field f's vector

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.base import FieldEmbeddings
from models.embeddings.choice import Pooling
from models.embeddings.mixed import bag_collection
from models.embeddings.quotients import Combine
from models.embeddings.vectors import FieldVectors
from models.layout import Layout


class QuotientRemainderEmbeddings(FieldEmbeddings):
    """An id's vector is made of the row of ``i // c`` in one table and of ``i % c`` in another.

    No two ids share both rows, so that all have vectors of their own, which the two tables'
    ``n / c + c`` rows span. Quotients and remainders are taken as batches are read, in integers
    (`models.tables.Table.ids_a_row`): a division of floats, as in DLRM's code, misses rows of large
    tables. Both tables start as ordinary ones of as many rows do.

    Args:
        layout: One table a field, or those of quotients and of remainders.
        field_dims: ``D_f`` of every field.
        combine: How both vectors become one.
        pooling: The list-valued fields, and how each is pooled; sums and means of lists are those
            of the two tables, so that they may be added and put side by side, not multiplied.
        device: Where tables are created.

    Shape:
        - Input: a `KeyedJaggedTensor` of batch size ``B``, one key a table.
        - Output: of every field a vector ``(B, D_f)``.

    Source:
        Shi et al., *Compositional Embeddings Using Complementary Partitions for Memory-Efficient
        Recommendation Systems*, KDD 2020, arXiv:1909.02107.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        field_dims: Sequence[int],
        combine: Combine = "mult",
        pooling: Mapping[str, Pooling] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        tables = list(layout.tables())
        self.field_names = tuple(layout.fields)
        self.field_dims = tuple(field_dims)
        self.out_dim = max(self.field_dims)
        self.tables = bag_collection(tables, pooling, device)
        by_field = groupby(tables, key=lambda table: table.field)
        names = [[table.name for table in own] for _, own in by_field]
        self.combine = Combination(names, combine)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:  # noqa: ARG002
        """Look up both tables of every field and combine them."""
        return FieldVectors(self.combine(self.look_up(features)))


class Combination(nn.Module):
    """Make one vector of the one or two that every field has; holds no tables itself.

    Args:
        names: Tables of every field.
        combine: How two become one.
    """

    def __init__(self, names: Sequence[Sequence[str]], combine: Combine) -> None:
        super().__init__()
        self.names, self.combine = names, combine

    def forward(self, pooled: KeyedTensor) -> Tensor:
        """The vectors of all fields side by side ``(B, sum of D_f)``."""
        # By name: a sharded collection returns its keys in plan order.
        return self.join(pooled.to_dict())

    def join(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """The same of the pooled vectors ``(B, d)`` by table."""
        return torch.cat([self._of_field([vectors[n] for n in own]) for own in self.names], dim=1)

    def _of_field(self, parts: Sequence[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        match self.combine:
            case "mult":
                return parts[0] * parts[1]
            case "add":
                return parts[0] + parts[1]
            case "concat":
                return torch.cat(list(parts), dim=1)
