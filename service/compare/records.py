"""``runs.jsonl``: one line a finished run, appended at once and never rewritten."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeGuard

RUNS_FILE = "runs.jsonl"
INFEASIBLE: Final = "infeasible"
"""Status of a search that found no plan within its budget; nothing went wrong."""

Record = dict[str, Any]


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line and wait until the disk has it; a line that a kill has torn is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, allow_nan=False).encode() + b"\n"
    with path.open("ab+") as file:
        if file.tell() and not _ends_a_line(file.fileno()):
            line = b"\n" + line
        file.write(line)  # one write of a file opened for appending
        file.flush()
        os.fsync(file.fileno())


def _ends_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, 1, size - 1) == b"\n"


def read_records(path: Path) -> dict[str, Record]:
    """The latest record of every run by its hash; lines that are torn are skipped.

    A run that has succeeded stays so, though it was tried again for something else, and failed:
    ``failed_since`` says why.
    """
    records: dict[str, Record] = {}
    for _, record in _lines(path):
        if record is not None:
            digest = record["hash"]
            records[digest] = _after(records.get(digest), record)
    return records


def torn_lines(path: Path) -> list[int]:
    """Numbers of the lines that cannot be read, as of the one that a killed run was writing."""
    return [number for number, record in _lines(path) if record is None]


def _lines(path: Path) -> Iterator[tuple[int, Record | None]]:
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            is_record = isinstance(record, dict) and "hash" in record
        except ValueError:
            is_record = False
        yield number, record if is_record else None


def _after(before: Record | None, record: Record) -> Record:
    """What two records of a run say together."""
    stays = is_done(before) and not is_done(record)
    stays |= is_settled(before) and not is_settled(record)
    return {**before, "failed_since": record.get("error")} if before and stays else record


def is_done(record: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether a run was trained and scored."""
    return record is not None and record["status"] == "done"


def failure_of(record: Mapping[str, Any]) -> str | None:
    """Why a run failed the last time that it was tried."""
    error: str | None = record.get("failed_since") if is_settled(record) else record.get("error")
    return error


def is_settled(record: Mapping[str, Any] | None) -> bool:
    """Whether a run needs no training any more: it was trained, or no plan fits."""
    return record is not None and record["status"] in ("done", INFEASIBLE)
