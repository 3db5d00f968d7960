"""Rows of the new tables, made of the old ones a piece at a time.

At most one stored shard of an old table is held beside the piece that is made, or beside one new
table whose ids share rows.
"""

# Shapes:  n rows or ids of a piece, d width of a table

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.embeddings.packed import pack
from models.sizing.spectral import CHUNK_ROWS, Floats
from models.tables import Table
from service.checkpoint import StoredTensors
from service.resize.tables import NEVER_READ, Source, TableChange
from service.train.initialise import CHUNK_ROWS as STARTING_ROWS
from service.train.initialise import starting_rows
from service.vocabulary_change import IdChange, Ids
from service.warm_up import TABLES, Vectors

WEIGHT: Final = "weight"
ROWWISE: Final = "rowwise sum"
"""A number a row, as opposed to one an element."""
SQUARES: Final = frozenset({"sum", "exp_avg_sq", "max_exp_avg_sq"})
"""State that sums squares of gradients."""


class Rows:
    """Makes rows of new tables, and of their optimizer's state.

    Args:
        stored: The old checkpoint.
        ids: What became of the ids of every field.
        counts: Training lookups of every id of a field.
        seed: Of starting rows.
        bounds: Largest absolute weight of every table's start.
    """

    def __init__(
        self,
        stored: StoredTensors,
        ids: Mapping[str, IdChange],
        counts: Callable[[str], Floats],
        *,
        seed: int,
        bounds: Mapping[str, float],
    ) -> None:
        self._stored, self._ids, self._counts = stored, ids, counts
        self._seed, self._bounds = seed, bounds
        self._shard: tuple[str, int] | None = None
        self._values: Vectors = np.empty((0, 0), np.float32)

    def make(self, change: TableChange, kind: str, first: int, end: int) -> Tensor:
        """Stored rows ``first`` to ``end`` of a new table, or of a state of it.

        Args:
            change: The table.
            kind: The weight, a state of its optimizer, or `ROWWISE`.
            first: A row as kernels store them.
            end: The row behind the last one; for a table whose ids share rows, all of them.
        """
        table = change.table
        low, high = first * table.packing, min(end * table.packing, table.num_embeddings)
        if change.is_same:
            rows = self._taken(change.sources[0], kind, np.arange(low, high))
        elif table.hashed_ids:
            rows = self._shared(change, kind)[low:high]
        else:
            rows = self._of_ids(change, kind, low, high)
        if kind == ROWWISE:
            return _packed_sums(rows, table)
        if kind == WEIGHT and change.fresh_from is not None:
            rows[:, change.fresh_from :] = self._starting(table, low, high)[:, change.fresh_from :]
        return pack(torch.from_numpy(rows), table)

    def _of_ids(self, change: TableChange, kind: str, low: int, high: int) -> Vectors:
        """What the ids at positions ``low`` to ``high`` of a table stand for ``(n, d)``."""
        table = change.table
        width = 1 if kind == ROWWISE else table.embedding_dim
        rows = np.zeros((high - low, width), dtype=np.float32)
        if change.sources:
            old_ids, is_new = self._ids[table.field].before(
                table.first_id + low, table.first_id + high
            )
            for source in change.sources:
                own = source.table
                last = own.first_id + own.num_ids
                is_here = (old_ids >= own.first_id) & (old_ids < last)
                if kind != WEIGHT:
                    is_here &= ~is_new  # a new value has no past of its own
                here = np.flatnonzero(is_here)
                rows[here] = self._from(source, kind, old_ids[here] - own.first_id)
        return rows

    def _from(self, source: Source, kind: str, positions: Ids) -> Vectors:
        """Rows of ids of an old table, and their share of its state where others use the row."""
        table = source.table
        rows = self._taken(source, kind, positions % table.num_embeddings)
        if kind != WEIGHT and table.hashed_ids:
            users, rest = divmod(table.num_ids, table.num_embeddings)
            rows /= (users + (positions % table.num_embeddings < rest))[:, None]
        return rows

    def _taken(self, source: Source, kind: str, wanted: Ids) -> Vectors:
        """Rows of an old table, in the coordinates of the new one."""
        matrix = None if kind == ROWWISE else source.rows
        if matrix is not None and kind != WEIGHT:
            assert source.moments is not None
            matrix = np.square(source.moments) if kind in SQUARES else source.moments
        width = source.table.embedding_dim if matrix is None else matrix.shape[1]
        rows = np.empty((len(wanted), 1 if kind == ROWWISE else width), dtype=np.float32)
        name = f"{TABLES}{source.table.name}.weight"
        if kind != WEIGHT:
            state = "sum" if kind == ROWWISE else kind
            name = f"{name.replace('model.', 'optimizer.state.', 1)}.{state}"
        cuts = [*self._stored.row_cuts(name), self._stored.shapes[name][0]]
        stored_rows = wanted // source.table.packing
        for first, end in pairwise(cuts):
            here = np.flatnonzero((stored_rows >= first) & (stored_rows < end))
            if not len(here):
                continue
            shard = self._read(name, first, end)
            if kind == ROWWISE:  # as many numbers as the columns were cut into
                sums = shard[stored_rows[here] - first].mean(axis=1, keepdims=True)
                rows[here] = sums * _shares(source.table, stored_rows[here])[:, None]
                continue
            whole = shard.reshape(-1, source.table.embedding_dim)
            for low in range(0, len(here), CHUNK_ROWS):
                chunk = here[low : low + CHUNK_ROWS]
                found = whole[wanted[chunk] - first * source.table.packing]
                rows[chunk] = found if matrix is None else found @ matrix
        return rows

    def _read(self, name: str, first: int, end: int) -> Vectors:
        """A stored shard; the last one is held, for pieces come in order."""
        if self._shard != (name, first):
            self._values = np.empty((0, 0), np.float32)  # not two at a time
            self._values = self._stored.read(name, slice(first, end))
            self._shard = name, first
        return self._values

    def _shared(self, change: TableChange, kind: str) -> Vectors:
        """Rows that several ids share: the mean of their vectors by lookups, the sum of states."""
        table = change.table
        width = 1 if kind == ROWWISE else table.embedding_dim
        sums = np.zeros((table.num_embeddings, width))
        weights = np.zeros(table.num_embeddings)
        for low in range(0, table.num_ids, CHUNK_ROWS):
            high = min(low + CHUNK_ROWS, table.num_ids)
            values = self._of_ids(change, kind, low, high).astype(np.float64)
            places = np.arange(low, high) % table.num_embeddings
            if kind == WEIGHT:
                counts = self._counts(table.field)[table.first_id + low : table.first_id + high]
                weight = np.maximum(counts, NEVER_READ)
                weights += np.bincount(places, weight, table.num_embeddings)
                values *= weight[:, None]
            np.add.at(sums, places, values)
        return (sums / weights[:, None] if kind == WEIGHT else sums).astype(np.float32)

    def _starting(self, table: Table, low: int, high: int) -> NDArray[np.float32]:
        chunks = range(low // STARTING_ROWS, -(-high // STARTING_ROWS))
        rows = [
            starting_rows(table, chunk, seed=self._seed, bound=self._bounds[table.name])
            for chunk in chunks
        ]
        start = chunks.start * STARTING_ROWS
        return np.concatenate(rows)[low - start : high - start]


def _shares(table: Table, stored_rows: Ids) -> Floats:
    """What each row of a stored one has of its sum, a mean over columns of which some may be idle.

    So that `_packed_sums` of them is the sum again.
    """
    inside = np.minimum(table.num_embeddings - stored_rows * table.packing, table.packing)
    return table.packing / inside


def _packed_sums(sums: Vectors, table: Table) -> Tensor:
    """Of rows that share a stored row, which adds up means over its columns ``(n, 1)``."""
    missing = np.zeros((-len(sums) % table.packing, 1), dtype=np.float32)
    grouped = np.concatenate([sums, missing]).reshape(-1, table.packing)
    return torch.from_numpy(grouped.mean(axis=1, keepdims=True))
