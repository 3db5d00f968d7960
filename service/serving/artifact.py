"""An artifact in memory: raw rows in, probabilities or ratings out."""

# Shapes:  n rows

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from service.data.examples import Columns
from service.data.readers.columns import Faults
from service.data.readers.roles import RawForm, read_raw_form
from service.serving.encoding import RowEncoder
from service.serving.json_rows import JsonRow, raw_columns
from service.serving.lookup import Lookup
from service.serving.manifest import PROGRAM_FILE, Manifest, check_files, read_manifest

CHUNK_ROWS: Final = 8192
"""Rows that are scored at a time, so that memory does not grow with the rows."""
SHOWN_FAULTS: Final = 5

Predictions = npt.NDArray[np.float32]


class BadRowsError(ValueError):
    """Rows that the model cannot score.

    Args:
        reasons: What is wrong, by place of the row.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        self.reasons = dict(sorted(reasons.items()))
        shown = [f"row {row}: {reason}" for row, reason in self.reasons.items()][:SHOWN_FAULTS]
        more = len(self.reasons) - len(shown)
        super().__init__("; ".join(shown) + (f"; and {more:,} rows more" if more else ""))


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Raw rows as the model reads them."""

    columns: Columns
    faults: Mapping[int, str]
    """What is wrong with a row, by its place."""


class Artifact:
    """A model that is served; any number of threads may ask it at once.

    Attributes:
        manifest: What it is, and what it scored when it was made.
        form: What raw rows look like.
        inputs: Raw columns that it reads.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.form: RawForm = read_raw_form(folder)
        self._encoder = RowEncoder(manifest, self.form, folder)
        self.inputs = self._encoder.inputs
        self._lookup = Lookup(manifest, folder)
        self._program = torch.export.load(folder / PROGRAM_FILE).module()

    def predict(self, rows: Sequence[JsonRow] | pa.Table) -> Predictions:
        """Probabilities of clicks, or ratings, ``(n,)``.

        Args:
            rows: Raw rows by column name, or as a table of columns.

        Raises:
            BadRowsError: If a row has a value that is none, or lacks a column.
            ValueError: If the table lacks a column.
        """
        encoded = self.encode(rows)
        if encoded.faults:
            raise BadRowsError(encoded.faults)
        return self.score(encoded.columns)

    def encode(self, rows: Sequence[JsonRow] | pa.Table) -> EncodedRows:
        """Raw rows as ids and dense values, and which of them are no good.

        Raises:
            ValueError: If a table lacks a column.
        """
        faults = Faults()
        if not isinstance(rows, pa.Table):
            rows = raw_columns(rows, self.inputs, self.form, faults)
        return EncodedRows(self._encoder(rows, faults), faults.reasons)

    def num_unknown(self, columns: Columns) -> dict[str, int]:
        """Values outside of the vocabulary, by field."""
        return self._encoder.num_unknown(columns)

    @property
    def encoder(self) -> RowEncoder:
        """Maps values to ids."""
        return self._encoder

    @torch.inference_mode()
    def score(self, columns: Columns) -> Predictions:
        """Probabilities or ratings of examples ``(n,)``."""
        parts = [
            self._program(torch.from_numpy(part.dense), self._lookup(part))
            for part in _chunks(columns)
        ]
        scores: Predictions = torch.cat(parts).numpy() if parts else np.empty(0, np.float32)
        return scores


def _chunks(columns: Columns) -> Iterator[Columns]:
    if len(columns) <= CHUNK_ROWS:
        if len(columns):
            yield columns
        return
    for first in range(0, len(columns), CHUNK_ROWS):
        yield columns.take(np.arange(first, min(first + CHUNK_ROWS, len(columns))))


def load(folder: Path | str, *, verify: bool = True) -> Artifact:
    """Read an artifact.

    Args:
        folder: Made by ``mixdim export``; a link to one will do.
        verify: Whether to check every file's hash first.

    Raises:
        FileNotFoundError: If the folder holds no artifact.
        ValueError: If a file is not as it was exported.
    """
    folder = Path(folder).resolve()  # a link may change while files are read
    manifest = read_manifest(folder)
    if verify:
        check_files(manifest, folder)
    return Artifact(folder, manifest)
