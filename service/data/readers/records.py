"""Lines of delimited text as columns of bytes, and the lines that are not records.

The strict parser takes a whole block. Only where it refuses, a second look finds the lines that it
refused, they are cut out, and the same strict parser takes the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

CHUNK_BYTES = 1 << 20
"""Text that is cut into values at a time: what stays in a core's cache is parsed twice as fast."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delimited:
    """How the lines of a text file are cut into values."""

    delimiter: str = "\t"
    """One character between two values."""

    quote: str | None = None
    """Character around values that contain the delimiter; such values hold no line breaks."""

    names: tuple[str, ...] = ()
    """Every column of the file, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """The lines of a block that are records, by column."""

    columns: pa.Table
    """Bytes; an empty value is null."""
    lines: NDArray[np.int64]
    """Position in the block of every record's line."""
    faults: dict[int, str]
    """Reason by position of every other line."""


def read_records(payload: bytes | bytearray, num_lines: int, how: Delimited) -> Records:
    """Parse a block of lines."""
    columns = _parse(payload, num_lines, how)
    if columns is not None:
        return Records(columns=columns, lines=np.arange(num_lines), faults={})
    lines: Sequence[bytes | bytearray] = payload.split(b"\n")[:num_lines]
    faults: dict[int, str] = {}
    _find_faults(lines, 0, how, faults)
    good = [position for position in range(num_lines) if position not in faults]
    columns = _parse(b"".join([lines[i] + b"\n" for i in good]), len(good), how)
    assert columns is not None, "lines that parse one by one also parse together"
    return Records(columns=columns, lines=np.array(good, dtype=np.int64), faults=faults)


def _parse(payload: bytes | bytearray, num_lines: int, how: Delimited) -> pa.Table | None:
    """All columns if every line is one record, else nothing."""
    if num_lines == 0:
        return pa.table([pa.array([], pa.binary())] * len(how.names), names=list(how.names))
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(how.names, pa.binary()),
        null_values=[""],
        strings_can_be_null=True,
    )
    try:
        columns = _read(payload, how, convert)
    except pa.ArrowInvalid:
        return None
    return columns.slice(0, num_lines) if _num_records(columns, how) == num_lines else None


def _find_faults(
    lines: Sequence[bytes | bytearray], first: int, how: Delimited, faults: dict[int, str]
) -> None:
    """Note every line that is not one record, by halving where lines run into each other."""
    wrong: dict[int, int] = {}

    def note(row: csv.InvalidRow) -> str:
        wrong[row.number - 1] = row.actual_columns
        return "skip"

    # The parser hands a refused line over as text: any bytes are valid text in latin-1.
    payload = b"".join([line + b"\n" for line in lines]).decode("latin-1").encode()
    only_first = csv.ConvertOptions(
        include_columns=[how.names[0]], column_types={how.names[0]: pa.binary()}
    )
    try:
        columns = _read(payload, how, only_first, note)
        aligned = _num_records(columns, how) + len(wrong) == len(lines)
    except pa.ArrowInvalid:
        aligned = False
    if aligned:
        for position, num_columns in wrong.items():
            faults[first + position] = f"{num_columns} columns, expected {len(how.names)}"
    elif len(lines) == 1:
        faults[first] = "not one record: a quote is not closed, or a carriage return stands inside"
    else:
        half = len(lines) // 2
        _find_faults(lines[:half], first, how, faults)
        _find_faults(lines[half:], first + half, how, faults)


def _read(
    payload: bytes | bytearray,
    how: Delimited,
    convert: csv.ConvertOptions,
    on_invalid: Callable[[csv.InvalidRow], str] | None = None,
) -> pa.Table:
    if b"\r" in payload and payload.count(b"\r") != payload.count(b"\r\n"):
        raise pa.ArrowInvalid("a carriage return inside a line")
    if how.quote:
        # A record of empty values behind the last line: an open quote would swallow it.
        end = b"" if payload.endswith(b"\n") else b"\n"
        payload = payload + end + how.delimiter.encode() * (len(how.names) - 1) + b"\n"
    try:
        return _read_chunks(payload, CHUNK_BYTES, how, convert, on_invalid)
    except pa.ArrowInvalid as error:
        if "straddl" not in str(error):  # else a line is longer than a chunk
            raise
    return _read_chunks(payload, len(payload) + 1, how, convert, on_invalid)


def _read_chunks(
    payload: bytes | bytearray,
    chunk_bytes: int,
    how: Delimited,
    convert: csv.ConvertOptions,
    on_invalid: Callable[[csv.InvalidRow], str] | None,
) -> pa.Table:
    return csv.read_csv(
        pa.py_buffer(payload),
        read_options=csv.ReadOptions(
            use_threads=False, block_size=chunk_bytes, column_names=list(how.names)
        ),
        parse_options=csv.ParseOptions(
            delimiter=how.delimiter,
            quote_char=how.quote or False,
            ignore_empty_lines=False,
            invalid_row_handler=on_invalid,
        ),
        convert_options=convert,
    )


def _num_records(columns: pa.Table, how: Delimited) -> int:
    return int(columns.num_rows) - (1 if how.quote else 0)
