"""``search.json``: what was asked, what it cost, what was found, and how good it is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from service.first_fault import first_fault
from service.run_folder import RunFolder
from service.search.stage import Stage

SEARCH_FILE: Final = "search.json"
FORMAT_VERSION: Final = 1
RETRAINED: Final = "retrain"
"""Name of the stage that trains the plan that was found."""
EXPORTED: Final = "export"
"""Name of the stage that makes of that training what is served."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRecord:
    """A search, as far as it has come."""

    status: Literal["running", "done"]
    asked: dict[str, Any]
    """Its configuration, but for what does not decide about the result."""
    budget_bytes: int | None
    data_sha256: str
    versions: dict[str, str]
    git_commit: str | None
    stages: list[dict[str, Any]] = field(default_factory=list)
    """What every training and measurement cost and scored, in their order."""
    cost: dict[str, float | None] = field(default_factory=dict)
    """Of the search: examples, seconds, and the most memory of any stage; without retraining."""
    widths: dict[str, list[int]] = field(default_factory=dict)
    """Used widths of every field."""
    embeddings: dict[str, Any] = field(default_factory=dict)
    """What looks ids up, as a training's configuration has it: the tables of the widths, or others
    in their stead."""
    figures: dict[str, int] = field(default_factory=dict)
    """EP with and without projections, bytes of training and of serving."""
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    """By field, what its widths are worth to the method."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else the method says."""
    validation: dict[str, float | None] = field(default_factory=dict)
    """Scores of the plan that was found, once it is trained."""
    test: dict[str, float | None] = field(default_factory=dict)
    run: str | None = None
    """Run folder of the plan, seen from the search's folder; None where it was not trained."""
    format_version: int = FORMAT_VERSION


_ADAPTER: Final = TypeAdapter(SearchRecord)


def write_record(record: SearchRecord, folder: Path) -> None:
    """Write it in one move."""
    RunFolder(folder).write_json(SEARCH_FILE, _ADAPTER.dump_python(record, mode="json"))


def read_record(folder: Path) -> SearchRecord | None:
    """What a folder's search has come to; None where there is none.

    Raises:
        ValueError: If the file is no record of a search.
    """
    path = folder / SEARCH_FILE
    if not path.is_file():
        return None
    try:
        return _ADAPTER.validate_python(json.loads(path.read_text()))
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error)}; restore it, or search anew") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}; restore it, or search anew") from error


def cost_of(stages: Sequence[Stage], result: Stage | None) -> dict[str, float | None]:
    """What a search took: all of its stages but the training that it ends in, and its export.

    Args:
        stages: All of them.
        result: That training, a stage of its own or one of those that were compared.
    """
    last = None if result is None else result.name
    own = [stage for stage in stages if stage.name not in {last, EXPORTED}]
    most = {
        name: max((getattr(s, name) for s in own if getattr(s, name) is not None), default=None)
        for name in ("peak_memory_bytes", "own_memory_bytes")
    }
    return {
        "examples": sum(stage.examples for stage in own),
        "seconds": sum(stage.seconds for stage in own),
        **most,
    }
