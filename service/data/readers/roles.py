"""Which raw column becomes what, and the checks on the way; and how a dataset remembers it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from service.data.readers.base import Block, Categories, Layout, Reject, Rows
from service.data.readers.columns import (
    Encoded,
    Faults,
    to_categories,
    to_dense,
    to_label,
    to_list_categories,
    to_time,
)
from service.data.readers.derive import Derivation
from service.first_fault import first_fault

RAW_FILE: Final = "raw.json"
"""In a dataset folder, or beside a model that is served: the `RawForm`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldSource:
    """Where a categorical column comes from."""

    column: str
    """Raw column."""

    derive: Annotated[Derivation, Field(discriminator="kind")] | None = None
    """What to make of its values; they stay as they are where not given."""

    strict: bool = False
    """Whether a value of which ``derive`` makes nothing is malformed; else it is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """Which raw columns become the columns of a `Layout`; raw columns without a role are left."""

    layout: Layout
    label: str
    """Raw column of the label."""
    fields: dict[str, FieldSource]
    """Source of every categorical column, in the order of the layout."""
    click_threshold: float | None = None
    """Labels of at least this are clicks; not given, clicks are labelled 0 and 1."""

    def raw_columns(self) -> set[str]:
        """Raw columns that have a role."""
        used = {self.label, *self.inputs()}
        return used | ({self.layout.time_column} if self.layout.time_column else set())

    def inputs(self) -> list[str]:
        """Raw columns that a prediction is made from, in order."""
        return list(
            dict.fromkeys([*self.layout.dense, *(own.column for own in self.fields.values())])
        )

    def convert(
        self, block: Block, columns: pa.Table, lines: NDArray[np.int64], refused: dict[int, str]
    ) -> Rows:
        """Check and convert the records of a block.

        Args:
            block: Where they come from.
            columns: The raw columns.
            lines: Place in the block of every record.
            refused: Reason by place of every line that is not a record.
        """
        faults = Faults()
        time_column = self.layout.time_column
        rows = Rows(
            block=block,
            index=block.first_index + lines,
            label=self._label(columns, faults),
            dense={
                name: to_dense(Encoded.of(name, columns[name]), transform, faults)
                for name, transform in self.layout.dense.items()
            },
            fields={
                name: self.categories(columns, source, faults)
                for name, source in self.fields.items()
            },
            time=to_time(Encoded.of(time_column, columns[time_column]), faults)
            if time_column
            else None,
        )
        reasons = {int(lines[row]): reason for row, reason in faults.reasons.items()} | refused
        if not reasons:
            return rows
        good = np.delete(np.arange(len(lines)), list(faults.reasons))
        return replace(rows.take(good), rejects=_explain(block, reasons))

    def categories(self, columns: pa.Table, source: FieldSource, faults: Faults) -> Categories:
        """One categorical column of every row."""
        column = columns[source.column]
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            lists = column.combine_chunks().cast(pa.list_(pa.string()))
            return to_list_categories(lists, np.arange(len(lists), dtype=np.int32))
        raw = Encoded.of(source.column, column)
        return to_categories(raw, faults, source.derive, strict=source.strict)

    def _label(self, columns: pa.Table, faults: Faults) -> NDArray[np.float32]:
        raw = Encoded.of(self.label, columns[self.label])
        is_zero_one = self.layout.task == "click" and self.click_threshold is None
        label = to_label(raw, (0.0, 1.0) if is_zero_one else (), faults)
        if self.click_threshold is None:
            return label
        return (label >= self.click_threshold).astype(np.float32)


def _explain(block: Block, reasons: dict[int, str]) -> list[Reject]:
    lines = block.payload.split(b"\n") if isinstance(block.payload, (bytes, bytearray)) else None
    return [
        Reject(
            path=block.path,
            line=block.first_line + position,
            reason=reasons[position],
            text=bytes(lines[position]) if lines else b"",
        )
        for position in sorted(reasons)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class RawForm:
    """``raw.json``: what raw rows look like, so that others than ``prepare`` can read them."""

    roles: Roles
    """Which raw columns become the columns of a row."""

    names: tuple[str, ...] = ()
    """All columns in order, of text that has no header."""

    delimiter: str = ","
    """Character between two values of text."""

    quote: str | None = None
    """Character around values that contain the delimiter."""

    def attachment(self) -> Mapping[str, str]:
        """The file that a dataset folder keeps it in, and its text."""
        return {RAW_FILE: _FORM.dump_json(self, indent=1).decode() + "\n"}


_FORM: Final = TypeAdapter(RawForm)


def read_raw_form(folder: Path) -> RawForm:
    """Read ``raw.json``.

    Raises:
        FileNotFoundError: If the folder has none.
        ValueError: If it does not follow the form.
    """
    path = folder / RAW_FILE
    try:
        return _FORM.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error)}; prepare the dataset again") from error
