"""From ids to what the program reads: rows of every table, pooled by example."""

# Shapes:  B batch, S columns of all tables, n ids, d width of a table

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from models.tables import Table
from service.coded_tables import CodedTables
from service.data.examples import Columns, ListColumn, route
from service.serving.manifest import CODES_FOLDER, Manifest
from service.serving.stored_rows import StoredRows


class Rows(Protocol):
    """A table that rows can be read from."""

    def vectors(self, rows: Tensor) -> Tensor:
        """Vectors ``(n, d)`` of rows ``(n,)``."""
        ...


class CodedRows:
    """The vectors of one field whose rows are codes."""

    def __init__(self, tables: CodedTables, field: str) -> None:
        self._tables, self._field = tables, field

    def vectors(self, rows: Tensor) -> Tensor:
        """Vectors ``(n, d)`` of rows ``(n,)``."""
        return torch.from_numpy(np.array(self._tables.vectors(self._field, rows.numpy())))


class Lookup:
    """Looks examples up in all tables.

    Args:
        manifest: Gives fields and tables.
        folder: The artifact.
    """

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self._tables = manifest.tables
        self._width = manifest.width
        self._rows = _open(manifest, folder)
        self._means = {field.name for field in manifest.fields if field.is_mean}
        self._single = [field.name for field in manifest.fields if not field.is_list]
        self._lists = [field.name for field in manifest.fields if field.is_list]

    def __call__(self, columns: Columns) -> Tensor:
        """Pooled vectors of every table side by side ``(B, S)``."""
        pooled = torch.empty(len(columns), self._width)
        first = 0
        for table in self._tables:
            place = pooled.narrow(1, first, table.embedding_dim)
            self._pool(table, self._ids(table.field, columns), place)
            first += table.embedding_dim
        return pooled

    def _ids(self, field: str, columns: Columns) -> ListColumn:
        if field in self._lists:
            return columns.lists[self._lists.index(field)]
        return ListColumn.one_each(columns.ids[self._single.index(field)])

    def _pool(self, table: Table, ids: ListColumn, place: Tensor) -> None:
        """Write a table's pooled vectors ``(B, d)``."""
        rows = route(table, ids)
        vectors = self._rows[table.name].vectors(torch.from_numpy(rows.values))
        if table.field not in self._lists and len(vectors) == len(place):
            place.copy_(vectors)
            return
        example = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
        place.zero_().index_add_(0, torch.from_numpy(example), vectors)
        if table.field in self._means:  # over the ids of all of the field's tables
            place.div_(torch.from_numpy(np.maximum(ids.lengths, 1)[:, None]))


def _open(manifest: Manifest, folder: Path) -> Mapping[str, Rows]:
    if not manifest.is_coded:
        return {
            table.name: StoredRows.load(folder, table, manifest.dtype) for table in manifest.tables
        }
    coded = CodedTables(folder / CODES_FOLDER)
    return {table.name: CodedRows(coded, table.field) for table in manifest.tables}
