"""How often every value occurs, in bounded memory.

Blocks bring partial counts. They are kept as tables, merged when they have doubled, and spilled to
disk when all counters together exceed their memory: a spilled run is cut into partitions by a hash
of the value, so that at the end each partition is merged on its own.
"""

import shutil
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.data.ingest.hashing import splitmix64, string_keys
from service.data.readers.base import Categories, Strings

MERGE_ROWS = 1 << 19
"""Counters that hold fewer new values than this are not merged yet."""
PARTITIONS = 64
"""Parts of a spilled run; a merge holds one part of every run."""
MERGE_FACTOR = 3
"""Memory that a merge needs, in sizes of the merged table; measured."""
LARGEST_TABLE_BYTES = 1 << 30
"""Bytes that one counter may hold in any case: Arrow's strings end at 2 GiB."""


class ValueCounter:
    """Counts of the values of one column.

    Attributes:
        num_bytes: Memory that they take now.
        num_missing: Lookups without a value.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._num_runs = 0
        self._hold([])
        self.num_missing = 0

    def _hold(self, tables: list[pa.Table]) -> None:
        self._tables = tables
        self._merged_rows, self._new_rows = sum(map(len, tables)), 0
        self.num_bytes: int = sum(table.nbytes for table in tables)

    def add(self, values: Strings, counts: NDArray[np.int64], num_missing: int) -> None:
        """Add the counts of a block; ``values`` are distinct strings without nulls."""
        self.num_missing += num_missing
        if len(values) == 0:
            return
        self._tables.append(pa.table({"value": values, "count": counts}))
        self._new_rows += len(values)
        self.num_bytes += self._tables[-1].nbytes
        if self._new_rows > max(self._merged_rows, MERGE_ROWS):
            self.merge()

    def merge(self) -> None:
        """Bring equal values together."""
        self._hold([_merged(self._tables)] if self._tables else [])

    def spill(self) -> None:
        """Move all counts to disk."""
        self.merge()
        if not self._tables:
            return
        table = self._tables.pop().combine_chunks()
        self._hold([])
        part = _partition_of(table["value"].combine_chunks())
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(PARTITIONS + 1))
        self._runs.mkdir(parents=True, exist_ok=True)
        path = self._runs / f"{self._num_runs}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            for start, end in pairwise(ends.tolist()):
                taken = table.take(order[start:end]).combine_chunks()
                writer.write_batch(_one_batch(taken))
        self._num_runs += 1

    def partitions(self) -> Iterator[pa.Table]:
        """Every value once with its count, in one or several tables."""
        if not self._num_runs:
            self.merge()
            yield from self._tables
            return
        self.spill()
        paths = [self._runs / f"{run}.arrow" for run in range(self._num_runs)]
        readers = [pa.ipc.open_file(pa.memory_map(str(path))) for path in paths]
        for part in range(PARTITIONS):
            batches = [reader.get_batch(part) for reader in readers]
            yield _merged([pa.Table.from_batches([batch]) for batch in batches])

    def clear(self) -> None:
        """Forget the counts, and their files."""
        self._hold([])
        shutil.rmtree(self._runs, ignore_errors=True)


class Counters:
    """One `ValueCounter` a field, with a limit on what they hold together."""

    def __init__(self, names: Mapping[str, bool], *, memory_bytes: int, folder: Path) -> None:
        self.by_name = {
            name: ValueCounter(folder / str(position)) for position, name in enumerate(names)
        }
        self._limit = memory_bytes // MERGE_FACTOR
        self.num_spills = 0

    def add(self, name: str, values: Strings, counts: NDArray[np.int64], missing: int) -> None:
        """Add the counts of a block to a field."""
        self.by_name[name].add(values, counts, missing)

    def keep_limit(self) -> None:
        """Merge, then spill, the largest counters until the rest fits."""
        sizes = {name: counter.num_bytes for name, counter in self.by_name.items()}
        over = sum(sizes.values()) > self._limit
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            counter = self.by_name[name]
            if not over and sizes[name] <= LARGEST_TABLE_BYTES:
                return
            counter.merge()
            sizes[name] = counter.num_bytes
            # Below half of the limit, or the next block would spill again.
            if sum(sizes.values()) > self._limit // 2 or sizes[name] > LARGEST_TABLE_BYTES:
                counter.spill()
                self.num_spills += 1
                sizes[name] = 0
            over = sum(sizes.values()) > self._limit // 2


def count_codes(column: Categories, num_rows: int) -> tuple[Strings, NDArray[np.int64], int]:
    """Count a column over its first rows: values that occur, how often, and missing ones."""
    codes = np.add(column.codes_of_first(num_rows), 1, dtype=np.intp)
    counts = np.bincount(codes, minlength=len(column.values) + 1)
    present = np.flatnonzero(counts[1:])
    values = column.values if len(present) == len(column.values) else column.values.take(present)
    return values, counts[1:][present], int(counts[0])


def _merged(tables: list[pa.Table]) -> pa.Table:
    if len(tables) == 1:
        return tables[0]
    together = pa.concat_tables(tables)
    encoded = together["value"].dictionary_encode().combine_chunks()
    counts = np.bincount(encoded.indices, together["count"]).astype(np.int64)
    return pa.table({"value": encoded.dictionary, "count": counts})


def _partition_of(values: Strings) -> NDArray[np.int64]:
    return (splitmix64(string_keys(values)) % np.uint64(PARTITIONS)).astype(np.int64)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    columns = [pc.cast(column.combine_chunks(), column.type) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)
