"""Rows of strings as rows of ids, cut by split: the second pass's work on one block."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.data.dataset import LABEL_COLUMN
from service.data.ingest.scratch import ParsedRows
from service.data.ingest.splits import SPLITS
from service.data.ingest.vocabulary import ValueIndex
from service.data.part_file import parts_schema
from service.data.readers.base import Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class RowEncoder:
    """Maps the values of a block to ids and hands its rows to their splits."""

    layout: Layout
    indexes: Mapping[str, ValueIndex]

    def __call__(self, rows: ParsedRows) -> list[pa.RecordBatch]:
        """One batch a split, in the order of `SPLITS`."""
        schema = parts_schema(self.layout.dense, self.layout.fields)
        encoded: dict[str, NDArray[Any]] = {LABEL_COLUMN: rows.label, **rows.dense}
        for name, column in rows.fields.items():
            encoded[name] = self.indexes[name].ids_of(column.values)[column.codes]
        batches = []
        for number in range(len(SPLITS)):
            marked = rows.split == number
            taken = np.flatnonzero(marked)
            arrays = [
                _taken(schema.field(name).type, values, _lengths(rows, name), taken, marked)
                for name, values in encoded.items()
            ]
            batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        return batches


def _lengths(rows: ParsedRows, name: str) -> NDArray[np.int32] | None:
    return rows.fields[name].lengths if name in rows.fields else None


def _taken(
    type_: pa.DataType,
    values: NDArray[Any],
    lengths: NDArray[np.int32] | None,
    taken: NDArray[np.int64],
    marked: NDArray[np.bool_],
) -> pa.Array:
    """The rows of one split of a column."""
    if lengths is None:
        return pa.array(values[taken])
    offsets = np.append(0, np.cumsum(lengths[taken])).astype(np.int32)
    elements = pa.array(values[np.repeat(marked, lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets), elements, type=type_)
