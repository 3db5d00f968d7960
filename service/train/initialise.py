"""Starting weights of tables that do not depend on where their shards live."""

import math
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor

from models.embeddings.packed import pack
from models.layout import Layout
from models.tables import Table

CHUNK_ROWS = 65_536
"""Rows that one generator fills; a multiple of every packing."""

TableInit = Literal["rows", "xavier"]
RowsOf = Literal["table", "field"]


@torch.no_grad()
def initialise_tables(
    model: nn.Module,
    plan: Layout,
    *,
    seed: int,
    init: TableInit = "rows",
    rows_of: RowsOf = "table",
) -> None:
    """Fill every table, or this rank's shards of it, from a seed, its name and row numbers alone.

    So a model starts the same on 1 rank as on 8, table-wise or row-wise. No rank ever holds more
    than its own shards and one chunk of rows. A packed table starts like an unpacked one of its
    rows and width; what is over in its last stored row is 0.

    Args:
        model: Holds the tables, sharded or not.
        plan: Names and shapes of the tables.
        seed: Seed of the run.
        init: ``rows`` for a bound of ``sqrt(1/n)``, ``xavier`` for ``sqrt(6/(n+d))``.
        rows_of: Whose rows are ``n``: the table's own, or those of its field's tables together, so
            that cutting a field into blocks leaves the bound of its rows.
    """
    tables = {table.name: table for table in plan.tables()}
    bounds = starting_bounds(plan, init, rows_of)
    for key, weight in model.state_dict().items():
        table = tables.get(table_name(key))
        if table is not None:
            for shard, first_row, first_column in local_shards(weight):
                _fill(shard, table, first_row, first_column, seed=seed, bound=bounds[table.name])


def starting_bounds(
    plan: Layout, init: TableInit = "rows", rows_of: RowsOf = "table"
) -> dict[str, float]:
    """Largest absolute weight of every table's start."""
    field_rows: Counter[str] = Counter()
    for table in plan.tables():
        field_rows[table.field] += table.num_embeddings
    bounds = {}
    for table in plan.tables():
        rows = field_rows[table.field] if rows_of == "field" else table.num_embeddings
        square = 1 / rows if init == "rows" else 6 / (rows + table.embedding_dim)
        bounds[table.name] = math.sqrt(square)
    return bounds


def table_name(key: str) -> str:
    """Name of the table that an entry of a model's state is of; empty for other entries."""
    _, found, name = key.rpartition(".embedding_bags.")
    return name.removesuffix(".weight") if found else ""


def local_shards(weight: Tensor | ShardedTensor) -> Iterator[tuple[Tensor, int, int]]:
    """This rank's pieces of a table with the row and column they start at."""
    if isinstance(weight, ShardedTensor):
        for shard in weight.local_shards():
            row, column = shard.metadata.shard_offsets
            yield shard.tensor, row, column
    else:
        yield weight, 0, 0


def _fill(
    shard: Tensor, table: Table, first_row: int, first_column: int, *, seed: int, bound: float
) -> None:
    rows, columns = shard.shape
    chunk_rows = CHUNK_ROWS // table.packing  # of the table as it is stored
    last_row = first_row + rows
    for chunk in range(first_row // chunk_rows, -(-last_row // chunk_rows)):
        start = max(chunk * chunk_rows, first_row)
        stop = min((chunk + 1) * chunk_rows, last_row)
        stored = pack(torch.from_numpy(starting_rows(table, chunk, seed=seed, bound=bound)), table)
        inside = slice(start - chunk * chunk_rows, stop - chunk * chunk_rows)
        shard[start - first_row : stop - first_row] = stored[
            inside, first_column : first_column + columns
        ]


def starting_rows(table: Table, chunk: int, *, seed: int, bound: float) -> NDArray[np.float32]:
    """How a table starts: its rows from ``chunk * CHUNK_ROWS`` on, as many at most."""
    identity = zlib.crc32(table.name.encode())
    size = (min(CHUNK_ROWS, table.num_embeddings - chunk * CHUNK_ROWS), table.embedding_dim)
    values = np.random.default_rng([seed, identity, chunk]).random(size, dtype=np.float32)
    return bound * (2 * values - 1)
