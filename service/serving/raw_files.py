"""Files of raw rows as tables of raw columns, a piece at a time: text, JSON lines or Parquet."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.data.readers.avazu import common_header
from service.data.readers.base import Block
from service.data.readers.blocks import COMPRESSIONS, LineBlocks, check_files
from service.data.readers.columns import Faults
from service.data.readers.parquet_table import parquet_columns
from service.data.readers.records import Delimited, read_records
from service.data.readers.roles import RawForm
from service.data.readers.table import PARQUET_ENDINGS, default_delimiter
from service.serving.json_rows import raw_columns

STDIN: Final = Path("-")
BLOCK_BYTES: Final = 4 << 20
BATCH_ROWS: Final = 1 << 14
JSON_ENDINGS: Final = frozenset({".jsonl", ".ndjson", ".json"})


@dataclass(frozen=True, kw_only=True, slots=True)
class RawPiece:
    """Some rows of a file."""

    columns: pa.Table
    """The rows that are records."""
    rows: Sequence[int]
    """Place in the file of each, from 0."""
    first_row: int
    num_rows: int
    """Rows and lines that are none."""
    faults: dict[int, str]
    """What is wrong with a row, by its place in the file."""


def read_pieces(path: Path, form: RawForm, inputs: Sequence[str]) -> Iterator[RawPiece]:
    """Read a file of raw rows.

    Text has a header; where it has none, it has all columns that the data had that was trained
    on, or these without the label.

    Args:
        path: The file; ``-`` for standard input, text or JSON lines.
        form: What raw rows look like.
        inputs: Raw columns that are read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it lacks a column.
    """
    with _on_disk(path) as found:
        check_files((found,))
        ending = (found.with_suffix("") if _is_compressed(found) else found).suffix.lower()
        if ending in PARQUET_ENDINGS:
            yield from _parquet(found, form, inputs)
        elif ending in JSON_ENDINGS:
            yield from _json_lines(found, form, inputs)
        else:
            yield from _text(found, form, inputs)


@contextmanager
def _on_disk(path: Path) -> Iterator[Path]:
    """The file, or one that standard input is copied to: text is looked at twice."""
    if path != STDIN:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "standard-input"
        with copied.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with copied.open("rb") as file:
            is_json = file.read(64).lstrip().startswith(b"{")
        yield copied.rename(copied.with_suffix(".jsonl")) if is_json else copied


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSIONS


def _parquet(path: Path, form: RawForm, inputs: Sequence[str]) -> Iterator[RawPiece]:
    _check_present(path, parquet_columns(path, form.roles), inputs)
    first = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(inputs)):
            columns = pa.Table.from_batches([batch])
            yield _piece(columns, first, np.arange(len(columns)), len(columns), {})
            first += len(columns)


def _text(path: Path, form: RawForm, inputs: Sequence[str]) -> Iterator[RawPiece]:
    how, has_header = _how(path, form, inputs)
    for block in LineBlocks(paths=(path,), block_bytes=BLOCK_BYTES, header=has_header):
        assert isinstance(block.payload, bytes | bytearray), "blocks of text hold text"
        records = read_records(block.payload, block.num_lines, how)
        columns = records.columns.select(list(inputs))
        yield _piece(columns, block.first_index, records.lines, block.num_lines, records.faults)


def _how(path: Path, form: RawForm, inputs: Sequence[str]) -> tuple[Delimited, bool]:
    """How lines are cut into columns, and whether the first one names them."""
    for delimiter in dict.fromkeys([default_delimiter(path), form.delimiter, ",", "\t"]):
        names = common_header((path,), delimiter)
        if set(inputs) <= set(names):
            _check_present(path, names, inputs)
            return Delimited(delimiter=delimiter, quote='"', names=names), True
    names = common_header((path,), form.delimiter)
    without_label = tuple(name for name in form.names if name != form.roles.label)
    for known in (form.names, without_label):
        if known and len(known) == len(names):
            return Delimited(delimiter=form.delimiter, quote=form.quote, names=known), False
    _check_present(path, common_header((path,), default_delimiter(path)), inputs)
    raise AssertionError("a name is missing, or the header would have been taken")


def _json_lines(path: Path, form: RawForm, inputs: Sequence[str]) -> Iterator[RawPiece]:
    for block in LineBlocks(paths=(path,), block_bytes=BLOCK_BYTES, header=False):
        rows, lines, wrong = _parsed(block)
        faults = Faults()
        columns = raw_columns(rows, inputs, form, faults)
        wrong |= {lines[row]: reason for row, reason in faults.reasons.items()}
        yield _piece(columns, block.first_index, np.array(lines, int), block.num_lines, wrong)


def _parsed(block: Block) -> tuple[list[dict[str, object]], list[int], dict[int, str]]:
    assert isinstance(block.payload, bytes | bytearray), "blocks of text hold text"
    rows, lines, wrong = [], [], {}
    texts: list[bytes] = bytes(block.payload).split(b"\n")
    for place, line in enumerate(texts[: block.num_lines]):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            wrong[place] = f"not JSON: {error}"
            continue
        if isinstance(row, dict):
            rows.append(row)
            lines.append(place)
        else:
            wrong[place] = "not an object of columns by name"
    return rows, lines, wrong


def _piece(
    columns: pa.Table,
    first: int,
    lines: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    num_rows: int,
    faults: dict[int, str],
) -> RawPiece:
    return RawPiece(
        columns=columns,
        rows=(lines + first).tolist(),
        first_row=first,
        num_rows=num_rows,
        faults={first + place: reason for place, reason in faults.items()},
    )


def _check_present(path: Path, present: Sequence[str], inputs: Sequence[str]) -> None:
    if twice := [name for name in inputs if present.count(name) > 1]:
        raise ValueError(
            f"{path} has several columns named {', '.join(twice)}; give each its own name"
        )
    if missing := [name for name in inputs if name not in present]:
        header = "" if len(missing) < len(inputs) else "; its first line has to name the columns"
        raise ValueError(
            f"{path} has no column {', '.join(map(repr, missing))}; its columns are "
            f"{', '.join(present)}, the model reads {', '.join(inputs)}{header}"
        )
