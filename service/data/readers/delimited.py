"""A `Dataset` over text files: which raw column becomes what, and the checks on the way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.data.dataset import SourceFile
from service.data.readers.base import Block, Categories, Layout, Reject, Rows
from service.data.readers.blocks import LineBlocks
from service.data.readers.columns import (
    Derive,
    Encoded,
    Faults,
    to_categories,
    to_dense,
    to_label,
    to_list_categories,
    to_time,
)
from service.data.readers.records import Delimited, read_records


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldSource:
    """Where a categorical column comes from."""

    column: str
    """Raw column."""

    derive: Derive | None = None
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
        used = {self.label, *self.layout.dense}
        used |= {source.column for source in self.fields.values()}
        return used | ({self.layout.time_column} if self.layout.time_column else set())

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
                name: self._categories(columns, source, faults)
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

    def _label(self, columns: pa.Table, faults: Faults) -> NDArray[np.float32]:
        raw = Encoded.of(self.label, columns[self.label])
        is_zero_one = self.layout.task == "click" and self.click_threshold is None
        label = to_label(raw, (0.0, 1.0) if is_zero_one else (), faults)
        if self.click_threshold is None:
            return label
        return (label >= self.click_threshold).astype(np.float32)

    def _categories(self, columns: pa.Table, source: FieldSource, faults: Faults) -> Categories:
        column = columns[source.column]
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            lists = column.combine_chunks().cast(pa.list_(pa.string()))
            return to_list_categories(lists, np.arange(len(lists), dtype=np.int32))
        raw = Encoded.of(source.column, column)
        return to_categories(raw, faults, source.derive, strict=source.strict)


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


@dataclass(frozen=True, kw_only=True)
class DelimitedDataset:
    """Text files of one format."""

    lines: LineBlocks
    how: Delimited
    roles: Roles
    long_delimiter: bytes | None = None
    """A delimiter of several characters; ``how.delimiter`` stands in for it."""

    @property
    def layout(self) -> Layout:
        """The columns of every row."""
        return self.roles.layout

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return self.lines.num_bytes

    def blocks(self) -> Iterator[Block]:
        """Cut the files into blocks of lines."""
        return iter(self.lines)

    def files(self) -> Sequence[SourceFile]:
        """What the first pass read."""
        return tuple(self.lines.files.values())

    def attachments(self) -> Mapping[str, str]:
        """Nothing of its own."""
        return {}

    def parse(self, block: Block) -> Rows:
        """Read the records of a block and convert them."""
        payload: Any = block.payload
        if self.long_delimiter:
            payload = payload.replace(self.long_delimiter, self.how.delimiter.encode())
        records = read_records(payload, block.num_lines, self.how)
        return self.roles.convert(block, records.columns, records.lines, records.faults)
