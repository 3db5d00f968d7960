"""Tables of width 1 and 2 inside kernels that take multiples of 4: several rows in a stored one.

A packed table is the matrix of its rows, read on in rows of 4, see `models.tables.Table.stored`.
Kernels look up stored rows; which part of one is meant, its *slot* ``row % packing``, is a matter
for afterwards: parts that are not meant get a gradient of exactly 0. So plain SGD and element-wise
Adagrad train a packed table like an unpacked one, and so does Adam as a dense optimizer. The fused
optimizers with a state a row share it among the rows of a stored one: row-wise Adagrad adds all
their gradients to one accumulator, and fused Adam goes on moving a row by its moments when only a
neighbour is read.
"""

# Shapes:  B batch, k packing, d width of a packed table, S packed tables of single-valued fields,
#          W the sum of their widths

from collections.abc import Container, Sequence

import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.tables import PACKED_DIMS, Table


def pack(rows: Tensor, table: Table) -> Tensor:
    """Rows of a table as kernels store them; what is over in the last stored row is 0.

    Args:
        rows: All rows of the table, or some from a multiple of ``table.packing`` on, ``(n, d)``.
        table: Which table; others than packed ones are stored as they are.
    """
    if missing := -rows.shape[0] % table.packing:
        rows = torch.cat([rows, rows.new_zeros(missing, table.embedding_dim)])
    return rows.reshape(-1, table.stored.embedding_dim)


def unpack(weight: Tensor, table: Table) -> Tensor:
    """The rows of a table, ``(num_embeddings, embedding_dim)``, from all that kernels store.

    Args:
        weight: ``(table.stored.num_embeddings, table.stored.embedding_dim)``: a weight, or
            element-wise state of an optimizer.
        table: Which table; others than packed ones come back unchanged.
    """
    return weight.reshape(-1, table.embedding_dim)[: table.num_embeddings]


def feature_names(table: Table, list_fields: Container[str]) -> list[str]:
    """Features of a table: its own name; for packed tables of lists one a slot.

    Ids of one list may have different slots, which pooling would mix: each slot is pooled apart.
    """
    if table.packing == 1 or table.field not in list_fields:
        return [table.name]
    # Not "name@0": TorchRec cuts the names of pooled features at an @.
    return [f"{table.name}#{slot}" for slot in range(table.packing)]


def slotted(tables: Sequence[Table], list_fields: Container[str]) -> list[Table]:
    """Packed tables of single-valued fields, narrowest first: what needs a slot an example."""
    packed = [t for t in tables if t.packing > 1 and t.field not in list_fields]
    return sorted(packed, key=lambda table: table.embedding_dim)


def feature_keys(tables: Sequence[Table], list_fields: Container[str]) -> list[str]:
    """Keys of a batch's features: those of tables, then the slots of `slotted` tables.

    No table serves the latter: collections ignore them or leave them behind before ids travel.
    """
    keys = [name for table in tables for name in feature_names(table, list_fields)]
    return keys + [f"{table.name}#slot" for table in slotted(tables, list_fields)]


class SlotSelector:
    """Pick the columns that are meant from the stored rows of single-valued packed tables.

    Args:
        tables: Tables that are `slotted`, in that order.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        self.names = [table.name for table in tables]
        self.dims = [table.embedding_dim for table in tables]
        assert set(self.dims) <= set(PACKED_DIMS)
        self._pooled_keys: list[str] = []
        self._constants: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, pooled: KeyedTensor, features: KeyedJaggedTensor) -> dict[str, Tensor]:
        """The ``(B, d)`` vectors by table; one gather for all of them."""
        owner, first, step = self._columns(pooled)  # (W,)
        slots = features.values()[-len(self.names) * features.stride() :]
        slots = slots.view(len(self.names), -1).index_select(0, owner).t()  # (B, W)
        chosen = pooled.values().gather(1, first + slots * step)
        return dict(zip(self.names, torch.split(chosen, self.dims, dim=1), strict=True))

    def _columns(self, pooled: KeyedTensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of every output column: its table, its column of ``pooled`` at slot 0, step by slot."""
        if self._constants is None or self._pooled_keys != pooled.keys():
            starts = dict(zip(pooled.keys(), pooled.offset_per_key(), strict=False))
            rows = [
                (owner, starts[name] + column, dim)
                for owner, (name, dim) in enumerate(zip(self.names, self.dims, strict=True))
                for column in range(dim)
            ]
            owner, first, step = torch.tensor(rows, device=pooled.device()).unbind(1)
            self._pooled_keys, self._constants = pooled.keys(), (owner, first, step)
        return self._constants
