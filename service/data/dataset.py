"""The dataset folder: what ``prepare`` writes and every later verb reads.

    DATA/dataset.json               this file's `DatasetInfo`
    DATA/train/part-00000.parquet   label, dense columns, one id column a field
    DATA/validation/part-*.parquet
    DATA/test/part-*.parquet
    DATA/vocab/C1.parquet           value and count; row i is id i
    DATA/raw.json                   which raw columns became what, see `service.data.readers.roles`
    DATA/rejects.tsv                file, line number and reason of every line left out

Columns of a part: ``label`` float32; every dense column float32, already ``log1p(max(x, 0))``
where ``DenseStats.transform`` says so, missing values as ``MISSING_DENSE``; every field int32, or
``list<int32>`` where ``FieldInfo.is_list``. No column holds nulls, and values are stored plain and
uncompressed, see `service.data.part_file`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from models.tables import FieldStats
from service.versioned_file import read_versioned

FORMAT_VERSION = 2
DATASET_FILE = "dataset.json"
LABEL_COLUMN = "label"
MISSING_DENSE = -1.0
"""Mark of a missing dense value; real values are never negative after the transform."""

Split = Literal["train", "validation", "test"]
Task = Literal["click", "rating"]
"""``click`` labels are 0 or 1, ``rating`` labels any number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseStats:
    """One dense column, measured on the training split after the transform."""

    name: str
    transform: Literal["log1p", "none"]
    mean: float
    std: float
    min: float
    max: float
    num_missing: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldInfo:
    """One categorical column: its statistics and its two special ids."""

    stats: FieldStats
    num_distinct: int
    """Distinct values of the training split, before the threshold, without "missing"."""
    missing_id: int
    unknown_id: int
    """Id of every value that is not in the vocabulary ("out of vocabulary")."""
    is_list: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PartInfo:
    """One Parquet file, and what tells it from any other."""

    path: str
    """Relative to the dataset folder."""
    num_rows: int
    size_bytes: int
    footer_sha256: str
    """Hash of the footer, which holds a checksum of every row group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitInfo:
    """Rows and parts of one split."""

    num_rows: int
    label_mean: float
    parts: tuple[PartInfo, ...]
    """In the order of the rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One raw file as it was read."""

    path: str
    size_bytes: int
    sha256: str
    num_lines: int
    """Lines read, the header not counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where the dataset came from."""

    mixdim_version: str
    created: str
    """UTC, ISO 8601."""
    files: tuple[SourceFile, ...]
    options: Mapping[str, object]
    """The resolved options of ``prepare``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """Everything a later verb needs to know of a dataset without opening its parts."""

    source: str
    """Name of the reader: criteo, avazu, movielens, table, synthetic."""
    task: Task
    dense: tuple[DenseStats, ...]
    fields: tuple[FieldInfo, ...]
    splits: Mapping[Split, SplitInfo]
    num_rows: int
    """Accepted rows, over all splits."""
    num_rejects: int
    provenance: Provenance
    format_version: int = FORMAT_VERSION

    @property
    def content_sha256(self) -> str:
        """Hash of what training sees: the same where the same rows were prepared again."""
        content = _CONTENT.dump_json((self.task, self.dense, self.fields, self.splits))
        return hashlib.sha256(content).hexdigest()

    @property
    def field_stats(self) -> tuple[FieldStats, ...]:
        """Statistics of every field, the input of a sizing scheme."""
        return tuple(info.stats for info in self.fields)

    def has_rows(self, split: Split) -> bool:
        """Whether a split is there and not empty."""
        return split in self.splits and self.splits[split].num_rows > 0

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Names of the dense columns in order."""
        return tuple(column.name for column in self.dense)


_ADAPTER = TypeAdapter(DatasetInfo)
_CONTENT = TypeAdapter(
    tuple[Task, tuple[DenseStats, ...], tuple[FieldInfo, ...], Mapping[Split, SplitInfo]]
)


def write_dataset_info(info: DatasetInfo, folder: Path) -> None:
    """Write ``dataset.json``; the last file that ``prepare`` writes."""
    (folder / DATASET_FILE).write_bytes(_ADAPTER.dump_json(info, indent=1) + b"\n")


def read_dataset_info(folder: Path) -> DatasetInfo:
    """Read ``dataset.json``.

    Raises:
        FileNotFoundError: If the folder is not a finished dataset.
        ValueError: If the file is of another version or does not follow the format.
    """
    path = folder / DATASET_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {DATASET_FILE}; make the dataset with `mixdim prepare`"
        )
    return read_versioned(path, _ADAPTER, FORMAT_VERSION, "prepare the dataset again")
