"""A split as it is stored: row groups of Parquet parts, read one at a time into arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.data.dataset import LABEL_COLUMN, DatasetInfo, PartInfo, Split
from service.data.examples import Columns, Ids, ListColumn
from service.data.part_file import PartFile, parts_schema

OPEN_PARTS = 256
"""Parts that stay open, of a million rows each. Opening one means to parse its footer, whose many
small pieces, made and freed all the time between large arrays, would make the heap grow."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Where a run of rows lies."""

    part: PartInfo
    index: int
    num_rows: int


class SplitReader:
    """Reads row groups of one split, and refuses values that no training could use.

    Args:
        folder: Dataset folder.
        info: Its ``dataset.json``.
        split: Which split.
        single_fields: Fields with one id an example.
        list_fields: Fields with any number of ids.

    Raises:
        FileNotFoundError: If a part is missing.
        ValueError: If a part is not the one that ``prepare`` wrote, see `PartFile`.
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
        self._is_click = info.task == "click"
        sizes = {stats.name: stats.num_embeddings for stats in info.field_stats}
        self._num_ids = np.array([sizes[name] for name in self._single], dtype=np.int64)
        self._num_list_ids = [sizes[name] for name in self._lists]
        is_list = {name: name in list_fields for name in (*single_fields, *list_fields)}
        schema = parts_schema(self._dense, is_list)
        self._open = lru_cache(OPEN_PARTS)(lambda part: PartFile(folder, part, schema))
        self.groups = [
            RowGroup(part, index, num_rows)
            for part in info.splits[split].parts
            for index, num_rows in enumerate(self._open(part).group_sizes)
        ]
        found, expected = sum(g.num_rows for g in self.groups), info.splits[split].num_rows
        if found != expected:
            raise ValueError(
                f"split {split!r} of {folder} has {found} rows in its parts, dataset.json says "
                f"{expected}; prepare the dataset again"
            )

    def empty(self, num_rows: int) -> Columns:
        """Room for rows, lists left out, to be read into again and again."""
        return Columns(
            labels=np.empty(num_rows, dtype=np.float32),
            dense=np.empty((num_rows, len(self._dense)), dtype=np.float32),
            ids=np.empty((len(self._single), num_rows), dtype=np.int32),
            lists=(),
        )

    def read(self, groups: Sequence[RowGroup], room: Columns | None = None) -> Columns:
        """Read row groups, one behind the other.

        Args:
            groups: At least one.
            room: Memory to use, of as many rows or more; else it is new.

        Raises:
            FileNotFoundError: If a part is gone.
            ValueError: If one is damaged, or holds an id, a label or a number that cannot be.
        """
        num_rows = sum(group.num_rows for group in groups)
        room = (room or self.empty(num_rows)).between(0, num_rows)
        first, parts = 0, []
        for group in groups:
            parts.append(self._fill(room.between(first, first + group.num_rows), group))
            first += group.num_rows
        lists = zip(*(part.lists for part in parts), strict=True)
        return replace(room, lists=tuple(ListColumn.concatenate(columns) for columns in lists))

    def _fill(self, room: Columns, group: RowGroup) -> Columns:
        file = self._open(group.part)
        content = file.read(group.index)

        def values(name: str, dtype: Any) -> Any:
            return file.values(content, group.index, name, dtype)

        room.labels[:] = values(LABEL_COLUMN, np.float32)
        for index, name in enumerate(self._dense):
            room.dense[:, index] = values(name, np.float32)
        for index, name in enumerate(self._single):
            room.ids[index] = values(name, np.int32)
        lists = file.lists(group.index, self._lists)
        columns = replace(room, lists=tuple(_list_column(lists[name]) for name in self._lists))
        self._check(columns, file.path, group.index)
        return columns

    def _check(self, columns: Columns, path: Path, group: int) -> None:
        where = f"part {path}, row group {group}"
        # As unsigned numbers negative ids are large ones.
        largest = columns.ids.view(np.uint32).max(axis=1, initial=0)
        for index in np.flatnonzero(largest >= self._num_ids):
            raise _bad_id(where, self._single[index], columns.ids[index], self._num_ids[index])
        for name, column, num_ids in zip(
            self._lists, columns.lists, self._num_list_ids, strict=True
        ):
            if column.values.view(np.uint32).max(initial=0) >= num_ids:
                raise _bad_id(where, name, column.values, num_ids)
        if not np.isfinite(columns.dense).all():
            row, column = np.argwhere(~np.isfinite(columns.dense))[0]
            value = columns.dense[row, column]
            raise _bad_value(where, self._dense[column], row, value, "a finite number")
        labels = columns.labels
        is_good = (labels == 0) | (labels == 1) if self._is_click else np.isfinite(labels)
        if not is_good.all():
            row = int(is_good.argmin())
            expected = "0 or 1" if self._is_click else "a finite number"
            raise _bad_value(where, LABEL_COLUMN, row, labels[row], expected)


def _bad_id(where: str, field: str, ids: Ids, num_ids: int) -> ValueError:
    place = int((ids.view(np.uint32) >= num_ids).argmax())
    return ValueError(
        f"{where}, field {field!r}: id {ids[place]} at position {place}, expected 0 to "
        f"{num_ids - 1} (dataset.json has {num_ids} ids); prepare the dataset again"
    )


def _bad_value(where: str, column: str, row: int, value: float, expected: str) -> ValueError:
    return ValueError(
        f"{where}, column {column!r}: {value:g} in row {row}, expected {expected}; prepare the "
        f"dataset again"
    )


def _list_column(column: pa.ListArray) -> ListColumn:
    offsets = column.offsets.to_numpy(zero_copy_only=True)
    values: NDArray[np.int32] = column.values.to_numpy(zero_copy_only=True)
    return ListColumn(
        lengths=np.diff(offsets).astype(np.int32), values=values[offsets[0] : offsets[-1]]
    )
