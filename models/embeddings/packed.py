"""Tables of width 1 and 2 inside kernels that take multiples of 4: several rows in a stored one.

A packed table is the matrix of its rows, read on in rows of 4, see `models.tables.Table.stored`.
Kernels look up stored rows; which part of one is meant, its *slot* ``row % packing``, is a matter
for afterwards: parts that are not meant get a gradient of exactly 0. So plain SGD and element-wise
Adagrad train a packed table like an unpacked one, and so does Adam as a dense optimizer. The fused
optimizers with a state a row share it among the rows of a stored one: row-wise Adagrad adds all
their gradients to one accumulator, and fused Adam goes on moving a row by its moments when only a
neighbour is read.
"""

# Legend:  n rows of a table, d its width

from collections.abc import Container, Sequence

import torch
from torch import Tensor

from models.tables import Table


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
