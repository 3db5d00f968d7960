"""Examples as columns of ids, and which rows of which table their ids are; free of torch."""

# Shapes:  n examples, I dense columns, S single-valued fields

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.tables import Table

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ListColumn:
    """A field that has any number of ids an example."""

    lengths: npt.NDArray[np.int32]
    """``(n,)``"""
    values: Ids
    """``(sum of lengths,)``"""

    @staticmethod
    def one_each(ids: Ids) -> "ListColumn":
        """A field that has one id an example, ``(n,)``."""
        return ListColumn(lengths=np.ones(len(ids), dtype=np.int32), values=ids)

    def take(self, rows: npt.NDArray[np.intp]) -> "ListColumn":
        """Pick examples by position."""
        starts = np.concatenate(([0], np.cumsum(self.lengths)[:-1]))[rows]
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        return ListColumn(lengths=lengths, values=self.values[np.repeat(starts, lengths) + within])

    @staticmethod
    def concatenate(parts: Sequence["ListColumn"]) -> "ListColumn":
        """Put examples after each other."""
        if len(parts) == 1:
            return parts[0]
        return ListColumn(
            lengths=np.concatenate([part.lengths for part in parts]),
            values=np.concatenate([part.values for part in parts]),
        )

    def where(self, is_kept: npt.NDArray[np.bool_]) -> "ListColumn":
        """Keep some of the ids; examples stay, some with fewer ids."""
        example = np.repeat(np.arange(len(self.lengths)), self.lengths)[is_kept]
        lengths = np.bincount(example, minlength=len(self.lengths)).astype(np.int32)
        return ListColumn(lengths=lengths, values=self.values[is_kept])


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Examples as Parquet has them: labels, dense columns, ids by field."""

    labels: npt.NDArray[np.float32]
    """``(n,)``"""
    dense: npt.NDArray[np.float32]
    """``(n, I)``"""
    ids: Ids
    """``(S, n)``: single-valued fields, in the order of the plan."""
    lists: tuple[ListColumn, ...]
    """List-valued fields, in the order of the plan."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.intp]) -> "Columns":
        """Pick examples by position."""
        return Columns(
            labels=self.labels[rows],
            dense=np.take(self.dense, rows, axis=0),
            ids=np.take(self.ids, rows, axis=1),
            lists=tuple(column.take(rows) for column in self.lists),
        )

    def between(self, first: int, last: int) -> "Columns":
        """Neighbouring examples where they lie; columns of lists are left out."""
        return Columns(
            labels=self.labels[first:last],
            dense=self.dense[first:last],
            ids=self.ids[:, first:last],
            lists=(),
        )

    @staticmethod
    def concatenate(parts: Sequence["Columns"]) -> "Columns":
        """Put examples after each other."""
        if len(parts) == 1:
            return parts[0]
        return Columns(
            labels=np.concatenate([part.labels for part in parts]),
            dense=np.concatenate([part.dense for part in parts]),
            ids=np.concatenate([part.ids for part in parts], axis=1),
            lists=tuple(
                ListColumn.concatenate(columns)
                for columns in zip(*(part.lists for part in parts), strict=True)
            ),
        )


def route(table: Table, column: ListColumn) -> ListColumn:
    """The ids of one table, as rows of that table, out of all ids of its field."""
    if table.name != table.field:
        rows = column.values - np.int32(table.first_id)
        column = replace(column, values=rows).where((rows >= 0) & (rows < table.num_ids))
    if table.hashed_ids:
        column = replace(column, values=shared_rows(table, column.values))
    return column


def shared_rows(table: Table, ids: Ids) -> Ids:
    """Rows of a table whose ids share them."""
    if table.ids_a_row > 1:
        ids = ids // np.int32(table.ids_a_row)
    return ids % np.int32(table.num_embeddings)
