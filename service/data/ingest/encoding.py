"""Rows of strings as rows of ids, cut by split: the second pass's work on one block."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from service.data.ingest.scratch import ParsedRows
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
        numbers = [pa.array(values) for values in (rows.label, *rows.dense.values())]
        batch = pa.RecordBatch.from_arrays([*numbers, *self._ids(rows, schema)], schema=schema)
        bounds = np.cumsum([0, *rows.sizes]).tolist()
        return [batch.slice(first, last - first) for first, last in pairwise(bounds)]

    def _ids(self, rows: ParsedRows, schema: pa.Schema) -> Iterator[pa.Array]:
        for name, column in rows.fields.items():
            ids = pa.array(self.indexes[name].ids_of(column.values)[column.codes])
            if column.lengths is None:
                yield ids
            else:
                offsets = pa.array(np.append(0, np.cumsum(column.lengths)).astype(np.int32))
                yield pa.ListArray.from_arrays(offsets, ids, type=schema.field(name).type)
