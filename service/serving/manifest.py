"""The artifact: a folder that scores raw rows, made by ``mixdim export``.

ARTIFACT/artifact.json      this file's `Manifest`: what it is, its scores, hashes of the rest
ARTIFACT/raw.json           what raw rows look like, see `service.data.readers.roles`
ARTIFACT/vocab/C1.parquet   value of every id
ARTIFACT/tables/C1.safetensors   rows as they are stored
ARTIFACT/codes/             instead of tables/ where rows are codes, see `service.coded_tables`
ARTIFACT/program.pt2        everything behind the lookups, by `torch.export`
ARTIFACT/model.onnx         the same for ONNX runtimes, where it was asked for
ARTIFACT/MODEL_CARD.md      what a person wants to know of it
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter

from models.sizing import ServingDtype
from models.tables import Table
from service.data.dataset import Split, Task
from service.versioned_file import read_versioned

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "artifact.json"
PROGRAM_FILE: Final = "program.pt2"
ONNX_FILE: Final = "model.onnx"
CARD_FILE: Final = "MODEL_CARD.md"
CODES_FOLDER: Final = "codes"
TABLES_FOLDER: Final = "tables"
VOCABULARIES_FOLDER: Final = "vocab"

Projections = Literal["none", "kept", "folded"]
"""Whether narrow tables are widened behind the lookup, were widened before they were stored, or
need no widening."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedField:
    """A categorical column."""

    name: str
    num_ids: int
    missing_id: int
    unknown_id: int
    """Id of every value that the vocabulary does not have."""
    is_list: bool = False
    is_mean: bool = False
    """Whether a list's vectors are averaged instead of summed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """What the artifact scored when it was made, beside the run's own scores."""

    split: Split
    num_rows: int
    run: Mapping[str, float | None]
    artifact: Mapping[str, float | None]
    tolerances: Mapping[str, float]
    """Largest gap that was let through, by score."""

    @property
    def gaps(self) -> dict[str, float]:
        """The artifact's scores less the run's, where both have one."""
        pairs = {name: (self.run.get(name), self.artifact.get(name)) for name in self.tolerances}
        return {
            name: there - here
            for name, (here, there) in pairs.items()
            if here is not None and there is not None
        }

    def exceeded(self) -> dict[str, float]:
        """The gaps that are beyond their tolerance."""
        return {name: gap for name, gap in self.gaps.items() if abs(gap) > self.tolerances[name]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where an artifact comes from."""

    run: str
    """Name of the run folder."""
    checkpoint: str
    network: str
    embeddings: str
    data_sha256: str
    git_commit: str | None
    versions: Mapping[str, str]
    """Of what exported it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """A file of the artifact."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """``artifact.json``."""

    name: str
    created: str
    """UTC, ISO 8601."""
    task: Task
    dtype: ServingDtype
    """What weights of tables are stored as; everything else is fp32."""
    projections: Projections
    is_coded: bool
    """Whether rows are codes."""
    num_dense: int
    fields: tuple[ServedField, ...]
    """In the order of the sizing plan."""
    tables: tuple[Table, ...]
    """In the order in which the program reads what was looked up."""
    gate: Gate
    origin: Origin
    files: Mapping[str, FileFacts]
    format_version: int = FORMAT_VERSION

    @property
    def version(self) -> str:
        """Short name of exactly these contents."""
        text = json.dumps({name: facts.sha256 for name, facts in sorted(self.files.items())})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def width(self) -> int:
        """Columns that the program reads of every example's lookups."""
        return sum(table.embedding_dim for table in self.tables)

    def num_bytes(self, *places: str) -> int:
        """Bytes of the files under these folders, or of these names; of all where none is given."""
        return sum(
            facts.num_bytes
            for name, facts in self.files.items()
            if not places or name.split("/")[0] in places
        )


_ADAPTER: Final = TypeAdapter(Manifest)


def table_file(table: Table) -> str:
    """Where a table's rows are, relative to the artifact."""
    return f"{TABLES_FOLDER}/{table.name.replace('/', '.')}.safetensors"  # no field has a dot


def vocabulary_file(field: str) -> str:
    """Where a field's vocabulary is, relative to the artifact."""
    return f"{VOCABULARIES_FOLDER}/{field}.parquet"


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``artifact.json``; the last file of an artifact."""
    (folder / MANIFEST_FILE).write_bytes(_ADAPTER.dump_json(manifest, indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read ``artifact.json``.

    Raises:
        FileNotFoundError: If the folder holds no artifact.
        ValueError: If the file is of another version or does not follow the format.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {MANIFEST_FILE}; make it with `mixdim export RUN --output {folder}`"
        )
    return read_versioned(path, _ADAPTER, FORMAT_VERSION, "export the run again")


def describe_files(folder: Path) -> dict[str, FileFacts]:
    """Size and hash of every file but ``artifact.json``."""
    return {
        name: FileFacts(num_bytes=(folder / name).stat().st_size, sha256=_sha256(folder / name))
        for name in _names(folder)
    }


def check_files(manifest: Manifest, folder: Path) -> None:
    """Refuse an artifact that is not as it was made.

    Raises:
        ValueError: If a file is missing or another one.
    """
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; copy the artifact again, or export the run again")
        if path.stat().st_size != facts.num_bytes or _sha256(path) != facts.sha256:
            raise ValueError(
                f"{path} is not the file that was exported (its size or SHA-256 differs from "
                f"{MANIFEST_FILE}'s); copy the artifact again, or export the run again"
            )


def _names(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST_FILE:
            yield path.relative_to(folder).as_posix()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
