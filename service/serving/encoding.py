"""Raw rows as examples, by the very functions that ``prepare`` has made the training rows with."""

# Shapes:  n examples, I dense columns, S single-valued fields

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.data.examples import Columns, Ids, ListColumn
from service.data.ingest.vocabulary import ValueIndex, Vocabulary
from service.data.readers.base import Categories, Strings
from service.data.readers.columns import Encoded, Faults, to_dense
from service.data.readers.roles import RawForm
from service.serving.manifest import Manifest, ServedField, vocabulary_file

FEW_STRINGS: Final = 64
MOST_KNOWN: Final = 8192
"""Strings that are remembered of a field, about."""
LONG_TEXT: Final = 64
"""Characters from which on a string is not remembered."""


class RowEncoder:
    """Maps raw columns to ids and dense values.

    Args:
        manifest: Gives the fields.
        form: Gives the raw columns.
        folder: The artifact, for its vocabularies.
    """

    def __init__(self, manifest: Manifest, form: RawForm, folder: Path) -> None:
        self._fields = manifest.fields
        self._roles = form.roles
        self._indexes = {field.name: _index(folder, field) for field in manifest.fields}
        sources = [self._roles.fields[field.name].column for field in manifest.fields]
        self.inputs = list(dict.fromkeys([*self._roles.layout.dense, *sources]))
        """Raw columns that are read."""

    def __call__(self, raw: pa.Table, faults: Faults) -> Columns:
        """Examples of raw columns; rows of values that are no good are noted.

        Raises:
            ValueError: If a column is not there.
        """
        self._check_columns(raw)
        dense = [
            to_dense(Encoded.of(name, raw[name]), transform, faults)
            for name, transform in self._roles.layout.dense.items()
        ]
        read = {
            field.name: self._roles.categories(raw, self._roles.fields[field.name], faults)
            for field in self._fields
        }
        return self.of_values(dense, read, raw.num_rows)

    def of_values(
        self, dense: Sequence[np.ndarray], fields: Mapping[str, Categories], num_rows: int
    ) -> Columns:
        """Examples of values that are derived already."""
        single, lists = [], []
        for field in self._fields:
            column = fields[field.name]
            ids = self._indexes[field.name].ids_of(column.values)[column.codes]
            if not field.is_list:
                single.append(ids)
            elif column.lengths is None:  # a list column of one value a row
                lists.append(ListColumn.one_each(ids))
            else:
                lists.append(ListColumn(lengths=column.lengths, values=ids))
        return Columns(
            labels=np.zeros(num_rows, dtype=np.float32),
            dense=np.stack(dense, axis=1) if dense else np.empty((num_rows, 0), np.float32),
            ids=np.stack(single) if single else np.empty((0, num_rows), np.int32),
            lists=tuple(lists),
        )

    def _check_columns(self, raw: pa.Table) -> None:
        if missing := [name for name in self.inputs if name not in raw.column_names]:
            raise ValueError(
                f"the rows have no column {', '.join(map(repr, missing))}; the model reads "
                f"{', '.join(self.inputs)}"
            )

    def num_unknown(self, columns: Columns) -> dict[str, int]:
        """Values outside of the vocabulary, by field."""
        single, lists = iter(columns.ids), iter(columns.lists)
        by_field: dict[str, Ids] = {
            field.name: next(lists).values if field.is_list else next(single)
            for field in self._fields
        }
        return {
            field.name: int((by_field[field.name] == field.unknown_id).sum())
            for field in self._fields
        }


class RememberingIndex:
    """Looks up the ids of strings; those of few strings, as a request has, are remembered.

    Searching many strings together has a price that a single one pays as well.

    Args:
        index: Knows the ids.
        missing_id: Id of a missing value.
    """

    def __init__(self, index: ValueIndex, missing_id: int) -> None:
        self._index, self._missing_id = index, missing_id
        self._known: dict[str, int] = {}

    def ids_of(self, values: Strings) -> Ids:
        """As `ValueIndex.ids_of`."""
        if len(values) > FEW_STRINGS:
            return self._index.ids_of(values)
        texts: list[str] = values.to_pylist()
        ids = {text: self._known.get(text) for text in texts}
        if new := [text for text, known in ids.items() if known is None]:
            found = self._index.ids_of(pa.array(new, pa.string()))[:-1].tolist()
            ids.update(zip(new, found, strict=True))
            if len(self._known) > MOST_KNOWN:
                self._known = {}
            self._known.update(
                (text, own) for text, own in zip(new, found, strict=True) if len(text) < LONG_TEXT
            )
        return np.array([*(ids[text] for text in texts), self._missing_id], dtype=np.int32)


def _index(folder: Path, field: ServedField) -> RememberingIndex:
    values = pq.read_table(folder / vocabulary_file(field.name), columns=["value"])["value"]
    vocabulary = Vocabulary(
        values=values.combine_chunks().cast(pa.large_string()).fill_null(""),
        counts=np.zeros(len(values), dtype=np.int64),
        missing_id=field.missing_id,
        unknown_id=field.unknown_id,
        num_distinct=len(values),
    )
    return RememberingIndex(ValueIndex(vocabulary), field.missing_id)
