"""Tables of a checkpoint as an artifact stores them, read and written a table at a time."""

# Shapes:  R stored rows, d width of a table, D_f width of its field's vector

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.embeddings.packed import pack
from models.sizing import Serving, ServingDtype
from models.tables import Table
from service.checkpoint import StoredTensors
from service.serving.manifest import TABLES_FOLDER, table_file
from service.serving.stored_rows import ROWS_KEY, STORED_DTYPES, dequantised
from service.train.served import as_stored, check_rounded
from service.warm_up import TABLES

CHUNK_ROWS: Final = 65_536
"""Stored rows that are worked on at a time."""


def folded(table: Table, projections: Mapping[str, Tensor]) -> Table:
    """The table that holds rows times their projection, of which it has one or none."""
    if table.name not in projections:
        return table
    return replace(table, embedding_dim=projections[table.name].shape[1])


@torch.no_grad()
def write_tables(
    stored: StoredTensors,
    tables: Sequence[Table],
    folder: Path,
    *,
    dtype: ServingDtype,
    fold: Mapping[str, Tensor],
) -> None:
    """Write every table's rows.

    Args:
        stored: The checkpoint.
        tables: As they were trained.
        folder: The artifact.
        dtype: What weights are stored as.
        fold: Projections ``(d, D_f)`` by table that rows are multiplied with before.

    Raises:
        ValueError: If a weight is too large for half floats.
    """
    (folder / TABLES_FOLDER).mkdir()
    for table in tables:
        rows = _rows(stored, table, dtype, fold.get(table.name))
        path = folder / table_file(folded(table, fold))
        save_file({ROWS_KEY: rows}, path)
        path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors' files are their owner's alone


def _rows(
    stored: StoredTensors, table: Table, dtype: ServingDtype, projection: Tensor | None
) -> Tensor:
    """All rows of a table as they are to be stored."""
    wide = table if projection is None else replace(table, embedding_dim=projection.shape[1])
    row_width = Serving(dtype=dtype).row_bytes(np.array(wide.stored.embedding_dim))
    itemsize = STORED_DTYPES[dtype].itemsize
    shape = wide.stored.num_embeddings, int(row_width) // itemsize
    written = torch.empty(shape, dtype=STORED_DTYPES[dtype])
    num_stored, place = table.stored.num_embeddings, 0
    for first in range(0, num_stored, CHUNK_ROWS):
        end = min(first + CHUNK_ROWS, num_stored)
        rows = torch.from_numpy(stored.read(f"{TABLES}{table.name}.weight", slice(first, end)))
        if projection is not None:
            left = table.num_embeddings - first * table.packing
            rows = rows.reshape(-1, table.embedding_dim)[:left] @ projection
            rows = pack(rows, wide)
        if dtype != "fp32":
            rows = as_stored(rows, dtype)
            check_rounded(table.name, dequantised(rows, dtype), dtype)
        written[place : place + len(rows)] = rows
        place += len(rows)
    return written
