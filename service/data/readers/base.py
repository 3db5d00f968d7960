"""The seam between raw logs and everything after them: blocks of lines in, rows of columns out.

A `Dataset` cuts its files into blocks, in order and cheaply, and parses each block on its own, so
that blocks can be parsed by several threads and the result does not depend on how many there are.

Columns come out *encoded*: the distinct values of a block once, and a code per row. Checking,
transforming, counting and mapping then cost one step per distinct value, not one per row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.tables import check_field_name
from service.data.dataset import LABEL_COLUMN, SourceFile, Task

Strings: TypeAlias = "pa.Array[Any]"
"""An Arrow array of strings, of whatever offset width."""
Codes: TypeAlias = "NDArray[np.signedinteger[Any]]"
"""Places in an array of distinct values, in integers as narrow as they can be."""
Transform = Literal["log1p", "none"]
MAX_NAME_BYTES: Final = 200
"""File systems take names of 255 bytes, endings included."""
MISSING_CODE = -1
"""Code of a row that has no value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which columns the rows of a dataset have."""

    task: Task
    dense: Mapping[str, Transform] = field(default_factory=dict)
    """Transform of every dense column."""
    fields: Mapping[str, bool]
    """Every categorical column, and whether a row holds a list of its values."""
    time_column: str | None = None
    """Raw column that orders the rows in time, where there is one."""

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("the data has no categorical column; name at least one")
        names = [LABEL_COLUMN, *self.dense, *self.fields]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"column {name!r} occurs {names.count(name)} times among label, dense and "
                    f"categorical columns; give every column one role and its own name"
                )
            is_long = len(name.encode()) > MAX_NAME_BYTES
            if not name or "/" in name or name.startswith(".") or is_long:
                raise ValueError(
                    f"column {name!r} cannot name a file; use a name without '/' or leading '.', "
                    f"of at most {MAX_NAME_BYTES} bytes"
                )
        for name in self.fields:
            check_field_name(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A run of whole lines of one file (or rows of a Parquet file)."""

    path: Path
    first_line: int
    """Line number in its file of the first line, from 1 and with the header counted."""
    first_index: int
    """Position of the first line among all data lines of all files."""
    num_lines: int
    bytes_read: int
    """Bytes of all files that had been read when this block was cut; for progress."""
    payload: bytes | bytearray | pa.RecordBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """A line that is left out, and why."""

    path: Path
    line: int
    reason: str
    text: bytes
    """The line itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Categories:
    """One categorical column of a block: distinct values, and a code per row or list element."""

    values: Strings
    """Distinct values, as strings without nulls."""
    codes: Codes
    """Index into ``values``, or `MISSING_CODE`."""
    lengths: NDArray[np.int32] | None = None
    """Elements of every row, at least 1 (a missing list is one missing element); lists only."""

    def take(self, rows: NDArray[np.intp]) -> "Categories":
        """The rows at these places, in their order."""
        if self.lengths is None:
            return replace(self, codes=self.codes[rows])
        lengths = self.lengths[rows]
        elements = runs(np.cumsum(self.lengths)[rows] - lengths, lengths)
        return replace(self, codes=self.codes[elements], lengths=lengths)

    def codes_of_first(self, num_rows: int) -> Codes:
        """Codes of the first rows."""
        return self.codes[: num_rows if self.lengths is None else self.lengths[:num_rows].sum()]


def runs(starts: NDArray[np.integer[Any]], lengths: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Places of all elements of runs, one run behind the other."""
    before = np.cumsum(lengths) - lengths
    places: NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return places


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The accepted rows of one block, and the lines that were not accepted."""

    block: Block
    index: NDArray[np.int64]
    """Position of every row among all data lines, rejected ones counted."""
    label: NDArray[np.float32]
    dense: Mapping[str, NDArray[np.float32]]
    """Transformed values, missing ones marked."""
    fields: Mapping[str, Categories]
    time: NDArray[np.int64] | None = None
    rejects: Sequence[Reject] = ()

    def take(self, rows: NDArray[np.intp]) -> "Rows":
        """The rows at these places, in their order."""
        return replace(
            self,
            index=self.index[rows],
            label=self.label[rows],
            dense={name: values[rows] for name, values in self.dense.items()},
            fields={name: column.take(rows) for name, column in self.fields.items()},
            time=None if self.time is None else self.time[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a source is to be read."""

    block_bytes: int = 8 << 20
    """Text that is parsed at a time, about."""
    seed: int = 0
    """Seed of what is drawn, where a source draws."""


class Dataset(Protocol):
    """Raw logs as rows of label, dense and categorical columns."""

    @property
    def layout(self) -> Layout:
        """The columns of every row."""
        ...

    @property
    def num_bytes(self) -> int:
        """Size of all files, the scale of `Block.bytes_read`."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Cut the files into blocks, in order; may be called once per pass."""
        ...

    def parse(self, block: Block) -> Rows:
        """Check and convert one block; free of side effects, so any thread may call it."""
        ...

    def files(self) -> Sequence[SourceFile]:
        """What the passes have read."""
        ...

    def attachments(self) -> Mapping[str, str]:
        """Texts of its own that the dataset folder keeps, by file name."""
        ...
