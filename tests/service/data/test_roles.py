"""What a dataset writes down of raw rows is enough to read them as ``prepare`` did."""

from dataclasses import fields
from typing import get_args

import pyarrow as pa
import pytest

from service.data.readers.base import Layout
from service.data.readers.columns import Faults
from service.data.readers.criteo import CRITEO_FORM
from service.data.readers.derive import (
    Derivation,
    HourOfDay,
    LookedUp,
    LookedUpLists,
    SplitBy,
    Weekday,
)
from service.data.readers.roles import RAW_FILE, FieldSource, RawForm, Roles, read_raw_form
from service.serving.raw_files import read_pieces

SOURCES = {
    "plain": FieldSource(column="user"),
    "hour": FieldSource(column="stamp", derive=HourOfDay(), strict=True),
    "day": FieldSource(column="stamp", derive=Weekday(), strict=True),
    "age": FieldSource(column="user", derive=LookedUp(of={"u1": "25", "u2": None})),
    "genres": FieldSource(column="user", derive=LookedUpLists(of={"u1": ("a", "b"), "u2": ()})),
    "tags": FieldSource(column="tags", derive=SplitBy(separator="|")),
}
DERIVED = {
    "plain": ["u1", "u2", "u3"],
    "hour": ["00", "23", "07"],
    "day": ["2", "5", "4"],
    "age": ["25", None, None],
    "genres": [["a", "b"], [None], [None]],
    "tags": [["x", "y"], [None], ["z"]],
}
"""14102100 is a Tuesday, 14103123 a Friday, 14103007 a Thursday: by the calendar of 2014."""


def form() -> RawForm:
    lists = ("genres", "tags")
    layout = Layout(task="click", fields={name: name in lists for name in SOURCES})
    return RawForm(roles=Roles(layout=layout, label="click", fields=SOURCES), delimiter="\t")


def written(folder, own: RawForm) -> RawForm:
    (folder / RAW_FILE).write_text(own.attachment()[RAW_FILE])
    return read_raw_form(folder)


def test_a_form_is_read_as_it_was_written_whatever_is_derived(tmp_path):
    assert written(tmp_path, form()) == form()
    derived = {type(source.derive) for source in SOURCES.values()} - {type(None)}
    assert derived == set(get_args(Derivation))
    assert all(any(own.name == "kind" for own in fields(kind)) for kind in derived)


def test_fields_are_derived_alike_by_a_form_that_was_read(tmp_path):
    roles, faults = written(tmp_path, form()).roles, Faults()
    raw = {
        "user": ["u1", "u2", "u3"],
        "stamp": ["14102100", "14103123", "14103007"],
        "tags": ["x|y", "", "z"],
    }
    for name, source in roles.fields.items():
        found = roles.categories(pa.table(raw), source, faults)
        values = [*found.values.to_pylist(), None]  # the last for code -1
        texts = iter([values[code] for code in found.codes])
        lengths = [0] * 3 if found.lengths is None else found.lengths.tolist()
        rows = [[next(texts) for _ in range(n)] if n else next(texts) for n in lengths]
        assert rows == DERIVED[name]
    assert not faults.reasons


@pytest.mark.parametrize("first", [0, 1], ids=["with label", "without label"])
def test_text_without_a_header_has_the_columns_of_the_data(first, tmp_path):
    names = CRITEO_FORM.names
    path = tmp_path / "day.tsv"
    lines = [[f"{row}{place}" for place in range(len(names))][first:] for row in range(3)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    (piece,) = read_pieces(path, CRITEO_FORM, CRITEO_FORM.roles.inputs())
    assert piece.columns["C26"].to_pylist() == [line[-1].encode() for line in lines]
    assert piece.columns["I1"].to_pylist() == [line[1 - first].encode() for line in lines]


def test_a_form_that_is_broken_is_told_with_its_place(tmp_path):
    broken = form().attachment()[RAW_FILE].replace('"weekday"', '"weekend"')
    (tmp_path / RAW_FILE).write_text(broken)
    with pytest.raises(ValueError, match=r"raw\.json: roles\.fields\.day\.derive.*prepare"):
        read_raw_form(tmp_path)
