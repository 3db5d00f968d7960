"""Synthetic logs of Criteo's form: as raw text for any reader, or prepared without a detour."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from service.data.dataset import LABEL_COLUMN, SourceFile
from service.data.readers.base import Block, Layout, Reading, Rows, Strings
from service.data.readers.criteo import CRITEO_FORM, CRITEO_LINES, CRITEO_ROLES, DENSE, FIELDS
from service.data.readers.records import read_records
from service.data.readers.teacher import CHUNK_ROWS, DENSE_WEIGHTS, RANKS, Draw, Teacher

TEACHER_FILE: Final = "teacher.json"
MEASURED_ROWS: Final = 1 << 18
"""Rows over which the teacher's own AUC is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Synthetic:
    """Made-up logs of Criteo's form, with labels from a teacher of known rank per field."""

    name: ClassVar[str] = "synthetic"

    rows: int = 100_000
    """Rows to make."""

    scale: float = 0.01
    """Size of the vocabularies against Criteo's Kaggle log (33.8 million values at 1)."""

    raw: Path | None = None
    """Only write raw text to this file (.gz and .zst are compressed), and prepare nothing."""

    days: int = 1
    """Files to cut the raw text into: ``day.tsv`` becomes ``day_0.tsv``, ``day_1.tsv``, ..."""

    def __post_init__(self) -> None:
        if self.rows < 1 or not 0 < self.scale <= 100 or self.days < 1:
            raise ValueError(
                f"rows={self.rows}, scale={self.scale}, days={self.days}; expected at least one "
                f"row and one day, and a scale in (0, 100]"
            )

    def open(self, reading: Reading) -> "SyntheticDataset":
        """Make rows as they are read."""
        return SyntheticDataset(config=self, teacher=Teacher(seed=reading.seed, scale=self.scale))


@dataclass(frozen=True, kw_only=True)
class SyntheticDataset:
    """Chunks of generated text, read like any other."""

    config: Synthetic
    teacher: Teacher
    layout: Layout = CRITEO_ROLES.layout

    @property
    def num_bytes(self) -> int:
        """Rows stand for bytes."""
        return self.config.rows

    def blocks(self) -> Iterator[Block]:
        """Number the chunks; they are drawn in `parse`."""
        for first in range(0, self.config.rows, CHUNK_ROWS):
            num_rows = min(CHUNK_ROWS, self.config.rows - first)
            yield Block(
                path=Path("synthetic"),
                first_line=first + 1,
                first_index=first,
                num_lines=num_rows,
                bytes_read=first + num_rows,
                payload=b"",
            )

    def parse(self, block: Block) -> Rows:
        """Write a chunk as text and read it."""
        records = read_records(self.text(block), block.num_lines, CRITEO_LINES)
        return CRITEO_ROLES.convert(block, records.columns, records.lines, records.faults)

    def text(self, block: Block) -> bytes:
        """Raw text of a chunk."""
        draw = self.teacher.draw(block.first_index // CHUNK_ROWS)
        return raw_text(self.teacher, draw, block.num_lines)

    def files(self) -> Sequence[SourceFile]:
        """There are none: the options say it all."""
        return ()

    def attachments(self) -> Mapping[str, str]:
        """What the teacher knows, and what raw rows look like."""
        return {TEACHER_FILE: describe_teacher(self), **CRITEO_FORM.attachment()}


def raw_text(teacher: Teacher, draw: Draw, num_rows: int) -> bytes:
    """The first rows of a chunk as lines of Criteo's form."""
    columns: dict[str, Any] = {LABEL_COLUMN: pa.array(draw.labels[:num_rows])}
    for number, name in enumerate(DENSE):
        missing = np.ascontiguousarray(draw.dense_missing[:num_rows, number])
        columns[name] = pa.array(draw.dense[:num_rows, number], mask=missing)
    for number, name in enumerate(FIELDS):
        values = draw.values[number, :num_rows]
        missing = values == teacher.cardinalities[number]
        columns[name] = _hexadecimal(teacher.hashed(number, values), missing)
    sink = pa.BufferOutputStream()
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    csv.write_csv(pa.table(columns), sink, options)
    text: bytes = sink.getvalue().to_pybytes()
    return text


def describe_teacher(dataset: SyntheticDataset) -> str:
    """What was planted, and how well the teacher itself predicts the labels, as JSON."""
    config, teacher = dataset.config, dataset.teacher
    num_rows = min(config.rows, MEASURED_ROWS)
    draws = [teacher.draw(chunk) for chunk in range(-(-num_rows // CHUNK_ROWS))]
    labels = np.concatenate([draw.labels for draw in draws])[:num_rows]
    logits = np.concatenate([draw.logits for draw in draws])[:num_rows]
    losses = np.logaddexp(0.0, np.where(labels == 1, -logits, logits))
    fields = {
        name: {"rank": rank, "cardinality": size}
        for name, rank, size in zip(FIELDS, RANKS, teacher.cardinalities, strict=True)
    }
    description = {
        "rows": config.rows,
        "scale": config.scale,
        "seed": teacher.seed,
        "measured_rows": num_rows,
        "positive_ratio": float(labels.mean()),
        "auc": _auc(labels, logits),
        "log_loss": float(losses.mean()),
        "fields": fields,
        "dense_weights": {name: DENSE_WEIGHTS.get(name, 0.0) for name in DENSE},
    }
    return json.dumps(description, indent=1) + "\n"


_HEX: Final = np.frombuffer(
    b"".join(b"%04x" % number for number in range(1 << 16)), dtype=np.uint32
)


def _hexadecimal(numbers: NDArray[np.uint32], missing: NDArray[np.bool_]) -> Strings:
    """Numbers as 8 hexadecimal digits."""
    halves = np.stack([numbers >> np.uint32(16), numbers & np.uint32(0xFFFF)], axis=1)
    digits = pa.py_buffer(_HEX[halves].tobytes())
    offsets = pa.py_buffer(np.arange(len(numbers) + 1, dtype=np.int32) * 8)
    valid = pa.array(~missing).buffers()[1]
    return pa.StringArray.from_buffers(len(numbers), offsets, digits, valid)


def _auc(labels: NDArray[np.int8], logits: NDArray[np.float64]) -> float | None:
    """Chance that a click scores above a non-click; nothing where one of them is missing."""
    num_clicks = int(labels.sum())
    num_others = len(labels) - num_clicks
    if num_clicks == 0 or num_others == 0:
        return None
    ranks = np.empty(len(labels))
    ranks[np.argsort(logits)] = np.arange(1, len(labels) + 1)
    above = ranks[labels == 1].sum() - num_clicks * (num_clicks + 1) / 2
    return float(above / (num_clicks * num_others))
