"""Rows of strings as rows of ids, cut by split: the second pass's work on one block."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.data.dataset import LABEL_COLUMN
from service.data.ingest.parts import parts_schema
from service.data.ingest.splits import SPLITS, Splitter
from service.data.ingest.vocabulary import ValueIndex
from service.data.readers.base import Layout, Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class RowEncoder:
    """Maps the values of a block to ids and hands its rows to their splits."""

    layout: Layout
    splitter: Splitter
    indexes: Mapping[str, ValueIndex]

    def __call__(self, rows: Rows) -> list[pa.RecordBatch]:
        """One batch a split, in the order of `SPLITS`."""
        schema = parts_schema(self.layout)
        split = self.splitter(rows)
        encoded: dict[str, NDArray[Any]] = {LABEL_COLUMN: rows.label, **rows.dense}
        for name, column in rows.fields.items():
            encoded[name] = self.indexes[name].ids_of(column.values)[column.codes]
        batches = []
        for number in range(len(SPLITS)):
            taken = np.flatnonzero(split == number)
            arrays = [
                self._column(rows, name, values, taken, split == number)
                for name, values in encoded.items()
            ]
            batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        return batches

    def _column(
        self,
        rows: Rows,
        name: str,
        values: NDArray[Any],
        taken: NDArray[np.int64],
        marked: NDArray[np.bool_],
    ) -> pa.Array:
        lengths = rows.fields[name].lengths if name in rows.fields else None
        if lengths is None:
            return pa.array(values[taken])
        offsets = np.append(0, np.cumsum(lengths[taken])).astype(np.int32)
        elements = pa.array(values[np.repeat(marked, lengths)])
        type_ = parts_schema(self.layout).field(name).type
        return pa.ListArray.from_arrays(pa.array(offsets), elements, type=type_)
