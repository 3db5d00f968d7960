"""Rows into Parquet parts that a loader can map: plain pages of equal row groups."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.data.dataset import (
    LABEL_COLUMN,
    MISSING_DENSE,
    DenseStats,
    PartInfo,
    Split,
    SplitInfo,
)
from service.data.part_file import PartFileWriter, parts_schema
from service.data.readers.base import Layout

GROUP_ROWS = 1 << 14
PART_ROWS = 1 << 20


@dataclass(slots=True)
class Moments:
    """Sums over the values of a dense column that are not missing."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    missing: int = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Add a row group."""
        present = values[values != MISSING_DENSE].astype(np.float64)
        self.missing += len(values) - len(present)
        if len(present) == 0:
            return
        self.count += len(present)
        self.total += float(present.sum())
        self.squares += float(np.square(present).sum())
        self.low = min(self.low, float(present.min()))
        self.high = max(self.high, float(present.max()))

    def stats(self, name: str, transform: str) -> DenseStats:
        """Summarise; a column without any value has zeros."""
        count = max(self.count, 1)
        mean = self.total / count
        return DenseStats(
            name=name,
            transform="log1p" if transform == "log1p" else "none",
            mean=mean,
            std=float(np.sqrt(max(self.squares / count - mean * mean, 0.0))),
            min=self.low if self.count else 0.0,
            max=self.high if self.count else 0.0,
            num_missing=self.missing,
        )


class PartWriter:
    """Writes the rows of one split, and sums them up on the way.

    Row groups and sums are cut by row count alone, so neither files nor statistics depend on the
    blocks that the rows came in.
    """

    def __init__(self, folder: Path, split: Split, layout: Layout) -> None:
        self._folder = folder
        self._split = split
        self._schema = parts_schema(layout.dense, layout.fields)
        self._transforms = layout.dense
        self._waiting: list[pa.RecordBatch] = []
        self._num_waiting = 0
        self._writer: PartFileWriter | None = None
        self._parts: list[PartInfo] = []
        self._moments = {name: Moments() for name in layout.dense}
        self._num_rows = 0
        self._label_total = 0.0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows over; they are written once they fill a row group."""
        self._waiting.append(batch)
        self._num_waiting += batch.num_rows
        if self._num_waiting >= GROUP_ROWS:
            self._write_groups(self._num_waiting // GROUP_ROWS * GROUP_ROWS)

    def finish(self) -> SplitInfo:
        """Write what is left and close the last part."""
        if self._num_waiting:
            self._write_groups(self._num_waiting)
        self.close()
        return SplitInfo(
            num_rows=self._num_rows,
            label_mean=self._label_total / max(self._num_rows, 1),
            parts=tuple(self._parts),
        )

    def close(self) -> None:
        """Close the open part, if any."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            self._parts.append(writer.close())

    def dense_stats(self) -> tuple[DenseStats, ...]:
        """Statistics of the dense columns over all rows of the split."""
        return tuple(
            moments.stats(name, self._transforms[name]) for name, moments in self._moments.items()
        )

    def _write_groups(self, num_rows: int) -> None:
        rows = pa.Table.from_batches(self._waiting, self._schema)
        rest = rows.slice(num_rows)
        self._waiting = rest.to_batches()
        self._num_waiting = rest.num_rows
        for start in range(0, num_rows, GROUP_ROWS):
            group = rows.slice(start, min(GROUP_ROWS, num_rows - start))
            self._open_part().write(group)
            self._sum_up(group)

    def _open_part(self) -> PartFileWriter:
        if self._num_rows % PART_ROWS == 0:
            self.close()
        if self._writer is None:
            path = f"{self._split}/part-{len(self._parts):05d}.parquet"
            self._writer = PartFileWriter(self._folder, path, self._schema)
        return self._writer

    def _sum_up(self, group: pa.Table) -> None:
        self._num_rows += group.num_rows
        self._label_total += float(group[LABEL_COLUMN].to_numpy().sum(dtype=np.float64))
        for name, moments in self._moments.items():
            moments.add(group[name].to_numpy())
