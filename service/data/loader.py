"""Parquet parts in, batches out: the same global batches for every number of ranks.

A split is read as a sequence of rows, the same on every rank. Global batch ``k`` is rows ``[k G,
(k + 1) G)`` of that sequence, and every rank takes its share of it. So all ranks see equally many
batches of equal size (shares of the last one are padded with examples of weight 0), a batch holds
the same examples on 1 rank as on 8, and a position in the data is one number.

Shuffling permutes the rows by seed and epoch, as a pure function of position, so that reading goes
on at any row. The row groups of a split are put in random order, the rows of every `POOL_GROUPS`
groups of that order are permuted together: a batch is drawn from groups all over the split. A split
of no more rows than that is permuted as a whole. The order matters where raw data is sorted, as
MovieLens is by user (biased MF, permuted within single groups: test MSE .7202 instead of .7100), so
splits up to `WHOLE_ROWS` are held in memory and permuted as a whole.

Memory: the whole split up to `WHOLE_ROWS` rows, beyond it one pool (8 groups of 16,384 rows, 26
fields and 13 dense columns are 20 MiB) that the next ones are read into, and one row group as it is
in the file. A rank reads and checks every pool and takes its share of each batch from it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from models.layout import Layout
from service.data.batch import Batch, FeatureBuilder
from service.data.dataset import DatasetInfo, FieldInfo, Split
from service.data.examples import Columns, Ids
from service.data.lookup_weights import LookupWeights
from service.data.row_groups import SplitReader

PREFETCHED_BATCHES = 4
WHOLE_ROWS: Final = 1 << 20
"""Splits of no more rows are shuffled as a whole."""
POOL_GROUPS: Final = 8
"""Row groups of a larger split whose rows are permuted together."""


class Loader:
    """Batches of one split for one rank.

    Args:
        folder: Dataset folder.
        info: Its ``dataset.json``.
        split: Which split to read.
        plan: Its fields are read, its tables are the keys of the features; a sizing plan, or the
            tables that embeddings have laid out.
        batch_size: Examples per rank and step.
        rank: This rank.
        world_size: Number of ranks.
        seed: Seed of the order; ``None`` reads in the order of the parts.
        pin_memory: Whether batches are copied to page-locked memory (for a GPU).
        whole_rows: Splits of no more rows are shuffled as a whole, others in pools.
        l2_power: How much less a lookup counts in the regularisation where its id is looked up
            often, see `LookupWeights`; 0 gives batches without such weights.

    Attributes:
        num_lookups: Ids read so far, by field.
        num_unknown: Those of them that are out of vocabulary.

    Raises:
        ValueError: If the plan names a field that the dataset lacks, the split is empty, or the
            parts hold other rows than ``dataset.json`` says.
        FileNotFoundError: If a part is missing.
    """

    def __init__(
        self,
        folder: Path,
        info: DatasetInfo,
        split: Split,
        plan: Layout,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int | None = None,
        pin_memory: bool = False,
        whole_rows: int = WHOLE_ROWS,
        l2_power: float = 0.0,
    ) -> None:
        known = _fields_of(plan, info, folder)
        self.num_rows = info.splits[split].num_rows
        if not self.num_rows:
            raise ValueError(f"split {split!r} of {folder} has no rows, expected at least 1")
        self.batch_size = batch_size
        self._features = FeatureBuilder(plan, [n for n in plan.fields if known[n].is_list])
        self._parts = SplitReader(
            folder,
            info,
            split,
            single_fields=self._features.single_fields,
            list_fields=self._features.list_fields,
        )
        self._rank, self._world_size = rank, world_size
        self._seed = seed
        self._is_whole = seed is not None and self.num_rows <= whole_rows
        self._whole: Columns | None = None
        self._pin_memory = pin_memory
        stats = [known[name].stats for name in plan.fields]
        self._lookup_weights = (
            LookupWeights(stats, self._features.list_fields, power=l2_power) if l2_power else None
        )
        self._unknown_ids = {name: known[name].unknown_id for name in plan.fields}
        self.num_lookups = dict.fromkeys(plan.fields, 0)
        self.num_unknown = dict.fromkeys(plan.fields, 0)

    def __len__(self) -> int:
        """Number of global batches of an epoch."""
        return -(-self.num_rows // self.global_batch_size)

    @property
    def global_batch_size(self) -> int:
        """Examples per step over all ranks."""
        return self.batch_size * self._world_size

    def size_of_batch(self, batch: int) -> int:
        """Examples of a global batch, over all ranks; the last one is smaller."""
        return min(self.global_batch_size, self.num_rows - batch * self.global_batch_size)

    def batches(self, epoch: int = 0, *, first_batch: int = 0) -> Iterator[Batch]:
        """Read one epoch from global batch ``first_batch`` on, a little ahead of the caller."""
        batches = self._read(epoch, first_batch)
        reader = ThreadPoolExecutor(1, thread_name_prefix="mixdim-loader")
        try:
            ahead = [reader.submit(next, batches, None) for _ in range(PREFETCHED_BATCHES)]
            while (batch := ahead.pop(0).result()) is not None:
                ahead.append(reader.submit(next, batches, None))
                yield batch
        finally:
            reader.shutdown(cancel_futures=True)

    def _read(self, epoch: int, first_batch: int) -> Iterator[Batch]:
        sequence = self._sequence(epoch)
        for batch in range(first_batch, len(self)):
            start, size = batch * self.global_batch_size, self.size_of_batch(batch)
            share = -(-size // self._world_size)
            first = min(start + share * self._rank, start + size - 1)
            num_rows = max(0, min(share, size - share * self._rank))
            columns = sequence.rows(first, first + max(num_rows, 1))
            yield self._batch(columns, num_rows, share, self._world_size / size)

    def _sequence(self, epoch: int) -> "_Sequence":
        """The rows of the split in the order of an epoch."""
        if self._seed is None:
            return _in_order(self._parts)
        if not self._is_whole:
            return _in_pools(self._parts, self._seed, epoch)
        if self._whole is None:
            self._whole = self._parts.read(self._parts.groups)
        return _as_a_whole(self._whole, self._seed, epoch)

    def _batch(self, columns: Columns, num_rows: int, share: int, weight: float) -> Batch:
        """A share of ``num_rows`` examples, padded where a global batch does not divide evenly."""
        self._count(columns, num_rows)
        weights = np.full(share, weight, dtype=np.float32)
        if num_rows < share:
            columns = columns.take(np.minimum(np.arange(share), len(columns) - 1))
            weights[num_rows:] = 0
        batch = Batch(
            dense=torch.from_numpy(columns.dense),
            features=self._features(columns),
            labels=torch.from_numpy(columns.labels),
            weights=torch.from_numpy(weights),
            lookup_weights=None
            if self._lookup_weights is None
            else torch.from_numpy(self._lookup_weights(columns)),
        )
        return batch.pin_memory() if self._pin_memory else batch

    def _count(self, columns: Columns, num_rows: int) -> None:
        """Count the ids of the first rows, and the unknown ones among them."""
        for name, ids in zip(self._features.single_fields, columns.ids, strict=True):
            self._count_ids(name, ids[:num_rows])
        for name, column in zip(self._features.list_fields, columns.lists, strict=True):
            self._count_ids(name, column.values[: int(column.lengths[:num_rows].sum())])

    def _count_ids(self, field: str, ids: Ids) -> None:
        self.num_lookups[field] += len(ids)
        self.num_unknown[field] += int(np.count_nonzero(ids == self._unknown_ids[field]))


def _fields_of(plan: Layout, info: DatasetInfo, folder: Path) -> dict[str, FieldInfo]:
    """What the dataset says of the plan's fields."""
    known = {field.stats.name: field for field in info.fields}
    if missing := [name for name in plan.fields if name not in known]:
        raise ValueError(
            f"the sizing plan has fields {missing}, the dataset {folder} has {sorted(known)}; "
            f"run mixdim size on this dataset"
        )
    return known


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows in memory, and the order in which they are given out."""

    columns: Columns
    order: npt.NDArray[np.intp]


class _Sequence:
    """Rows addressed by their position, read a piece at a time.

    Args:
        sizes: Rows of every piece.
        read: Gives a piece by its number; those it has given before may then be gone.
    """

    def __init__(self, sizes: Sequence[int], read: Callable[[int], _Piece]) -> None:
        self._ends = np.cumsum(sizes)
        self._piece = lru_cache(1)(read)

    def rows(self, first: int, last: int) -> Columns:
        """The rows at positions ``[first, last)``, at least one."""
        place = int(np.searchsorted(self._ends, first, side="right"))
        parts: list[Columns] = []
        while first < last:
            piece = self._piece(place)
            start, stop = int(self._ends[place]) - len(piece.order), int(self._ends[place])
            parts.append(piece.columns.take(piece.order[first - start : last - start]))
            first, place = stop, place + 1
        return Columns.concatenate(parts)


def _in_order(parts: SplitReader) -> _Sequence:
    def read(place: int) -> _Piece:
        columns = parts.read([parts.groups[place]])
        return _Piece(columns, np.arange(len(columns)))

    return _Sequence([group.num_rows for group in parts.groups], read)


def _in_pools(parts: SplitReader, seed: int, epoch: int) -> _Sequence:
    """Row groups in an order of the epoch, and the rows of some of them at a time in another."""
    order = np.random.default_rng([seed, epoch]).permutation(len(parts.groups)).tolist()
    groups = [parts.groups[index] for index in order]
    pools = [groups[start : start + POOL_GROUPS] for start in range(0, len(groups), POOL_GROUPS)]
    sizes = [sum(group.num_rows for group in pool) for pool in pools]
    room = parts.empty(max(sizes))

    def read(place: int) -> _Piece:
        columns = parts.read(pools[place], room)
        return _Piece(
            columns, np.random.default_rng([seed, epoch, place]).permutation(len(columns))
        )

    return _Sequence(sizes, read)


def _as_a_whole(rows: Columns, seed: int, epoch: int) -> _Sequence:
    """All rows in an order of the epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    return _Sequence([len(rows)], lambda _: _Piece(rows, order))
