"""Export a finished run's pruned tables without their zeros."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from models.sparse import smallest_format
from models.tables import Table
from service.checkpoint import StoredTensors, best_checkpoint
from service.run_folder import SIZING_FILE, RunFolder
from service.sizing import read_sizing
from service.sparse_tables import (
    INDEX,
    INDEX_FILE,
    INDICES_FILE,
    VALUES_FILE,
    Floats,
    SparseIndex,
    SparseTable,
    encoded,
)
from service.warm_up import TABLES

logger = logging.getLogger(__name__)

CHUNK_ROWS: Final = 65_536
"""Rows as they are stored that are read at a time."""


def export_sparse(run: Path, folder: Path) -> int:
    """Write the tables of a run's best checkpoint, each in its smallest format; their bytes.

    No process group is joined. Of one table at a time what is not zero is held, at 20 bytes a
    weight, and one stored piece of it.

    Args:
        run: Run folder of embeddings of kind ``pruned``.
        folder: Where to write; what is there is replaced as a whole.

    Raises:
        ValueError: If the run has embeddings of another kind.
        FileNotFoundError: If the folder holds no run, or the run left no checkpoint.
    """
    config = RunFolder(run).read_config()
    if config.embeddings.kind != "pruned":
        raise ValueError(
            f"run {run} has embeddings of kind {config.embeddings.kind!r}, which has no zeros; "
            f"name a run of kind 'pruned'"
        )
    checkpoint = best_checkpoint(RunFolder(run).checkpoints)
    if checkpoint is None:
        raise FileNotFoundError(f"{run} holds no finished checkpoint; train it to its end")
    plan = replace(read_sizing(run / SIZING_FILE).plan, join=config.network.join)
    stored = StoredTensors(checkpoint)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    tables: list[SparseTable] = []
    with (draft / INDICES_FILE).open("wb") as indices, (draft / VALUES_FILE).open("wb") as values:
        for table in plan.tables():
            described = replace(
                _described(table, stored),
                first_index_byte=indices.tell(),
                first_value=values.tell() // 4,
            )
            for index_bytes, floats in _parts(described, table, stored):
                indices.write(index_bytes)
                values.write(np.ascontiguousarray(floats, dtype="<f4").tobytes())
            tables.append(described)
    index = SparseIndex(tables=tuple(tables), checkpoint=f"{run.name}/{checkpoint.name}")
    (draft / INDEX_FILE).write_bytes(INDEX.dump_json(index, indent=1) + b"\n")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    num_bytes = sum((folder / name).stat().st_size for name in (INDICES_FILE, VALUES_FILE))
    logger.info("exported %d tables, %d bytes, to %s", len(tables), num_bytes, folder)
    return num_bytes


def _described(table: Table, stored: StoredTensors) -> SparseTable:
    num_stored = sum(int(np.count_nonzero(rows)) for rows in _pieces(table, stored))
    best, _ = smallest_format(table.num_embeddings, table.embedding_dim, num_stored)
    return SparseTable(
        name=table.name,
        num_rows=table.num_embeddings,
        dim=table.embedding_dim,
        format=best,
        num_stored=table.num_embeddings * table.embedding_dim if best == "dense" else num_stored,
    )


def _parts(
    described: SparseTable, table: Table, stored: StoredTensors
) -> Iterator[tuple[bytes, Floats]]:
    """Indices and values, in the order of the files; of dense tables a piece at a time."""
    if described.format == "dense":
        for rows in _pieces(table, stored):
            yield b"", rows
        return
    places, values, first = [], [], 0
    for rows in _pieces(table, stored):
        flat = rows.ravel()
        own = np.flatnonzero(flat)
        places.append(own + first)
        values.append(flat[own])
        first += len(flat)
    yield encoded(described, np.concatenate(places), np.concatenate(values))


def _pieces(table: Table, stored: StoredTensors) -> Iterator[Floats]:
    """A table's rows in turn, unpacked."""
    name = f"{TABLES}{table.name}.weight"
    num_stored = table.stored.num_embeddings
    left = table.num_embeddings
    for start in range(0, num_stored, CHUNK_ROWS):
        rows = stored.read(name, slice(start, min(num_stored, start + CHUNK_ROWS)))
        unpacked = rows.reshape(-1, table.embedding_dim)[:left]
        left -= len(unpacked)
        yield unpacked
