"""``predict``: a file of raw rows in, a file of predictions out, a piece at a time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.data.readers.table import PARQUET_ENDINGS
from service.serving.artifact import Artifact, BadRowsError, Predictions
from service.serving.raw_files import STDIN, RawPiece, read_pieces

COLUMN: Final = "prediction"
SCHEMA: Final = pa.schema([pa.field(COLUMN, pa.float32())])


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What became of a file."""

    num_rows: int
    num_bad: int
    """Rows without a prediction."""


def predict_file(artifact: Artifact, path: Path, output: Path, *, skip_bad: bool) -> Predicted:
    """Score every row of a file, in its order.

    Args:
        artifact: The model.
        path: Rows; ``-`` for standard input.
        output: CSV or Parquet, by its ending, with one column; ``-`` for standard output. It
            appears when it is complete.
        skip_bad: Whether rows that are no good get no prediction, instead of ending it all.

    Raises:
        FileNotFoundError: If there is no such file.
        BadRowsError: If a row is no good.
        ValueError: If a column is missing, or no file can be written there.
    """
    _check_output(output, path)
    num_rows = num_bad = 0
    with _writer(output) as write:
        for piece in read_pieces(path, artifact.form, artifact.inputs):
            predictions, bad = _of_piece(artifact, piece)
            if bad and not skip_bad:
                raise BadRowsError({place + 1: reason for place, reason in bad.items()})
            write(predictions)
            num_rows += piece.num_rows
            num_bad += len(bad)
    return Predicted(num_rows=num_rows, num_bad=num_bad)


def _check_output(output: Path, path: Path) -> None:
    if output.is_dir():
        raise ValueError(f"output {output} is a folder; name a file, such as {output / 'out.csv'}")
    if output.exists() and path.exists() and output.samefile(path):
        raise ValueError(
            f"output {output} is the file of the rows, which would be lost; name another"
        )


def _of_piece(artifact: Artifact, piece: RawPiece) -> tuple[Predictions, dict[int, str]]:
    """Predictions of all rows of a piece, NaN for those that are no good, and these."""
    encoded = artifact.encode(piece.columns)
    bad = piece.faults | {piece.rows[row]: reason for row, reason in encoded.faults.items()}
    predictions = np.full(piece.num_rows, np.nan, dtype=np.float32)
    predictions[np.array(piece.rows, dtype=int) - piece.first_row] = artifact.score(encoded.columns)
    predictions[np.array(list(bad), dtype=int) - piece.first_row] = np.nan
    return predictions, bad


class _Writer:
    """Writes predictions behind each other; NaN as nothing."""

    def __init__(self, file: IO[bytes], *, is_parquet: bool) -> None:
        self._file = file
        self._parquet = pq.ParquetWriter(file, SCHEMA) if is_parquet else None
        if not is_parquet:
            file.write(f"{COLUMN}\n".encode())

    def __call__(self, predictions: Predictions) -> None:
        if self._parquet is not None:
            column = pa.array(predictions, mask=np.isnan(predictions))
            self._parquet.write_table(pa.table([column], schema=SCHEMA))
            return
        lines = ["" if value != value else f"{value:.9g}" for value in predictions.tolist()]
        self._file.write("".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        """Write what stands behind the last row."""
        if self._parquet is not None:
            self._parquet.close()


@contextmanager
def _writer(output: Path) -> Iterator[_Writer]:
    """A file that has its name when it is complete."""
    if output == STDIN:
        yield _Writer(sys.stdout.buffer, is_parquet=False)
        sys.stdout.flush()
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".partial-{output.name}")
    try:
        with draft.open("wb") as file:
            writer = _Writer(file, is_parquet=output.suffix.lower() in PARQUET_ENDINGS)
            yield writer
            writer.close()
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
