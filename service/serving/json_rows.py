"""Rows of JSON as raw columns: every value as the text that training data would have."""

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from service.data.readers.columns import Faults
from service.data.readers.derive import SplitBy
from service.data.readers.roles import RawForm

JsonRow = Mapping[str, object]

SHOWN: Final = 40
"""Characters of a value that a message shows."""


def raw_columns(
    rows: Sequence[JsonRow], inputs: Sequence[str], form: RawForm, faults: Faults
) -> pa.Table:
    """The columns that a model reads, of rows by name.

    Null stands for a missing value. A name that is not there is a fault: a misspelt one would pass
    for a missing value otherwise. Further names are left out.

    Args:
        rows: What was sent.
        inputs: Raw columns that the model reads.
        form: What they are.
        faults: Where rows that are no good are noted.
    """
    dense = form.roles.layout.dense
    separators = {
        source.column: source.derive.separator if isinstance(source.derive, SplitBy) else None
        for name, source in form.roles.fields.items()
        if form.roles.layout.fields[name]
        and (source.derive is None or isinstance(source.derive, SplitBy))
    }
    columns = {}
    for name in inputs:
        values = [_present(row, name, place, faults) for place, row in enumerate(rows)]
        if name in separators:
            columns[name] = _lists(name, values, separators[name], faults)
        else:
            texts = [
                _text(name, value, place, faults, is_number=name in dense)
                for place, value in enumerate(values)
            ]
            columns[name] = pa.array(texts, pa.string())
    return pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))})


def _present(row: JsonRow, name: str, place: int, faults: Faults) -> object:
    if name not in row:
        _note(faults, place, f"column {name!r} is not there; give null for a missing value")
    return row.get(name)


def _text(
    name: str, value: object, place: int, faults: Faults, *, is_number: bool = False
) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _checked(name, value, place, faults)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and is_number:
        return repr(value)
    expected = "a number" if is_number else "text or a whole number"
    _note(faults, place, f"column {name!r}: {_shown(value)}, expected {expected} or null")
    return None


def _checked(name: str, value: str, place: int, faults: Faults) -> str | None:
    """The text, unless it cannot be written as UTF-8: JSON can hold halves of characters."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        _note(faults, place, f"column {name!r}: {_shown(value)} is not UTF-8")
        return None
    return value


def _lists(
    name: str, values: Sequence[object], separator: str | None, faults: Faults
) -> "pa.Array[pa.ListScalar]":
    """Lists of texts; a text is cut as it would be in a file."""
    rows: list[list[str | None]] = []
    for place, value in enumerate(values):
        if isinstance(value, str) and separator:
            rows.append([*(_checked(name, value, place, faults) or "").split(separator)])
        elif value is None or isinstance(value, list | tuple):
            rows.append([_text(name, inner, place, faults) for inner in value or ()])
        else:
            how = f" or one text with {separator!r} between them" if separator else ""
            _note(faults, place, f"column {name!r}: {_shown(value)}, expected a list of texts{how}")
            rows.append([])
    return pa.array(rows, pa.list_(pa.string()))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _note(faults: Faults, place: int, reason: str) -> None:
    faults.reasons.setdefault(place, reason)
