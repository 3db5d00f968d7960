"""A split as it is stored: row groups of Parquet parts, decoded one at a time into arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.data.batch import Columns, ListColumn
from service.data.dataset import LABEL_COLUMN, DatasetInfo, Split

OPEN_PARTS = 16
"""Parts that stay open; opening one means to parse its footer."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Where a run of rows lies."""

    path: Path
    index: int
    num_rows: int


class SplitReader:
    """Reads row groups of one split.

    Args:
        folder: Dataset folder.
        info: Its ``dataset.json``.
        split: Which split.
        single_fields: Fields with one id an example.
        list_fields: Fields with any number of ids.

    Raises:
        FileNotFoundError: If a part is missing.
        ValueError: If a part is not Parquet, or the parts hold another number of rows than
            ``dataset.json`` says.
    """

    def __init__(
        self,
        folder: Path,
        info: DatasetInfo,
        split: Split,
        *,
        single_fields: Sequence[str],
        list_fields: Sequence[str],
    ) -> None:
        self._dense = list(info.dense_names)
        self._single = list(single_fields)
        self._lists = list(list_fields)
        self._open = lru_cache(OPEN_PARTS)(_open)
        self.groups = [
            RowGroup(path, index, metadata.row_group(index).num_rows)
            for path, metadata in (
                (path, self._open(path).metadata)
                for path in (folder / part for part in info.splits[split].parts)
            )
            for index in range(metadata.num_row_groups)
        ]
        found, expected = sum(g.num_rows for g in self.groups), info.splits[split].num_rows
        if found != expected:
            raise ValueError(
                f"split {split!r} of {folder} has {found} rows in its parts, dataset.json says "
                f"{expected}; the dataset changed after it was prepared: prepare it again"
            )

    def read(self, group: RowGroup) -> Columns:
        """Decode one row group."""
        table = self._open(group.path).read_row_group(
            group.index,
            columns=[LABEL_COLUMN, *self._dense, *self._single, *self._lists],
            use_threads=False,
        )
        dense = np.empty((group.num_rows, len(self._dense)), dtype=np.float32)
        for index, name in enumerate(self._dense):
            dense[:, index] = _values(table, name)
        ids = np.empty((len(self._single), group.num_rows), dtype=np.int32)
        for index, name in enumerate(self._single):
            ids[index] = _values(table, name)
        return Columns(
            labels=_values(table, LABEL_COLUMN),
            dense=dense,
            ids=ids,
            lists=tuple(_list_column(table, name) for name in self._lists),
        )


def _open(path: Path) -> pq.ParquetFile:
    if not path.is_file():
        raise FileNotFoundError(
            f"part {path} is missing, dataset.json names it; prepare the dataset again"
        )
    try:
        return pq.ParquetFile(path, memory_map=True)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"part {path} is no valid Parquet file ({error}); prepare the dataset again"
        ) from error


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _values(table: pa.Table, name: str) -> np.ndarray:
    """A column as an array over Arrow's own memory."""
    values: np.ndarray = _column(table, name).to_numpy(zero_copy_only=True)
    return values


def _list_column(table: pa.Table, name: str) -> ListColumn:
    column = _column(table, name)
    offsets = column.offsets.to_numpy(zero_copy_only=True)
    return ListColumn(
        lengths=np.diff(offsets).astype(np.int32),
        values=column.values.to_numpy(zero_copy_only=True)[offsets[0] : offsets[-1]],
    )
