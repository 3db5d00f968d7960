"""What lies in the service's folder, as requests read it: datasets, sizings, runs, frontiers."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from service.api.errors import ApiError
from service.data.dataset import DatasetInfo, read_dataset_info
from service.explain import explain
from service.run_folder import (
    METRICS_FILE,
    RESULT_FILE,
    RUN_FILE,
    SHARDING_FILE,
    SIZING_FILE,
    without_nan,
)
from service.sharding_file import read_sharding
from service.sizing import SizingFile, read_sizing, sizing_bytes
from sharding.placement import Placement

Found = TypeVar("Found")
FP32_BYTES: Final = 4
TAIL_BYTES: Final = 1 << 14
"""Read from the end of metrics.jsonl for the last line of training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a training has come."""

    step: int
    steps: int | None
    """Of a run that does not stop early."""
    epoch: int
    fraction: float | None
    examples_per_second: float | None


def describe_dataset(name: str, path: Path) -> dict[str, Any]:
    """A dataset with its fields and splits."""
    info = _read(read_dataset_info, path)
    return {
        "name": name,
        "source": info.source,
        "task": info.task,
        "num_rows": info.num_rows,
        "splits": {split: found.num_rows for split, found in info.splits.items()},
        "fields": [
            {
                "name": field.stats.name,
                "ids": field.stats.num_embeddings,
                "lookups": field.stats.num_lookups,
                "coverage": field.stats.coverage_ratio,
            }
            for field in info.fields
        ],
        "dense": [dense.name for dense in info.dense],
    }


def describe_sizing(name: str, path: Path) -> dict[str, Any]:
    """A sizing plan with its widths and bytes."""
    sizing = _read(read_sizing, path)
    cost = sizing_bytes(sizing)
    return {
        "name": name,
        "scheme": dict(sizing.scheme),
        "budget": sizing.budget,
        "optimizer": sizing.optimizer,
        "out_dim": sizing.out_dim,
        "bytes": {"training": cost.training_bytes, "serving": cost.serving_bytes},
        "fields": explain_rows(sizing),
    }


def explain_rows(
    sizing: SizingFile, info: DatasetInfo | None = None, placement: Placement | None = None
) -> list[dict[str, Any]]:
    """A row a table: what it asked for, what it got, and why."""
    stats = info.field_stats if info is not None else ()
    return [
        {
            "table": line.name,
            "field": line.field,
            "ids": line.num_ids,
            "rows": line.num_embeddings,
            "coverage": line.coverage_ratio,
            "lookups": line.lookup_ratio,
            "asked": line.asked_dim,
            "used": line.embedding_dim,
            "bytes": line.total_bytes,
            "serving_bytes": line.serving_bytes,
            "placement": line.placement,
            "why": line.reason,
        }
        for line in explain(sizing, stats, placement)
    ]


def explain_run(path: Path) -> list[dict[str, Any]]:
    """The tables of a run."""
    sizing = _read(read_sizing, path / SIZING_FILE)
    data = Path(str(read_json(path / RUN_FILE).get("config", {}).get("data", "")))
    info, placement = _found(read_dataset_info, data), _found(read_sharding, path / SHARDING_FILE)
    try:
        return explain_rows(sizing, info, placement)
    except ValueError:  # a method's own tables lie elsewhere than the plan's
        return explain_rows(sizing, info)


def placement_of(path: Path) -> dict[str, Any]:
    """Which rank holds what of a run."""
    placement = _read(read_sharding, path / SHARDING_FILE)
    costs = sizing_bytes(_read(read_sizing, path / SIZING_FILE)).tables
    ranks: dict[int, dict[str, Any]] = {
        rank: {"rank": rank, "bytes": 0, "tables": []} for rank in range(placement.num_ranks)
    }
    for table in placement.tables:
        cells = table.num_embeddings * table.embedding_dim
        cost = costs.get(table.name)  # None for a method's own tables
        whole = cost.weights + cost.optimizer_state if cost else FP32_BYTES * cells
        for shard in table.shards:
            share = shard.num_rows * shard.num_columns / cells
            num_bytes = round(whole * share)
            ranks[shard.rank]["bytes"] += num_bytes
            ranks[shard.rank]["tables"].append(
                {
                    "table": table.name,
                    "sharding": table.sharding_type,
                    "rows": shard.num_rows,
                    "columns": shard.num_columns,
                    "bytes": num_bytes,
                }
            )
    return {"ranks": list(ranks.values())}


def describe_run(name: str, path: Path, *, with_config: bool) -> dict[str, Any]:
    """A run: how it was trained, its scores, its bytes."""
    record, result = read_json(path / RUN_FILE), read_json(path / RESULT_FILE)
    shown: dict[str, Any] = {
        "name": name,
        "network": record.get("config", {}).get("network", {}).get("kind"),
        "data": Path(str(record.get("config", {}).get("data", ""))).name or None,
        "sizing": Path(str(record.get("config", {}).get("sizing", ""))).parent.name or None,
        "scores": without_nan(result.get("scores")),
        "result": without_nan(result) or None,
        "bytes": record.get("training_bytes", {}).get("planned"),
        "ranks": record.get("world_size"),
    }
    return shown | ({"config": record.get("config")} if with_config else {})


def metrics_of(
    path: Path, kind: Literal["train", "validation", "test"], since: int, limit: int
) -> list[dict[str, Any]]:
    """Lines of a run's metrics behind a step; as they were written last, where it was resumed."""
    lines: dict[int, dict[str, Any]] = {}
    for line in _metric_lines(path / METRICS_FILE):
        if line.get("kind") == kind and isinstance(step := line.get("step"), int) and step > since:
            lines[step] = without_nan(line)
    return [lines[step] for step in sorted(lines)][:limit]


def progress_of(path: Path) -> Progress | None:
    """How far the training in a run folder has come; None before its first line."""
    metrics = path / METRICS_FILE
    if not metrics.is_file():
        return None
    last = None
    for line in _metric_lines(metrics, tail=True):
        last = line if line.get("kind") == "train" else last
    if last is None:
        return None
    planned = read_json(path / RUN_FILE).get("planned_steps")
    steps = planned if isinstance(planned, int) and planned > 0 else None
    return Progress(
        step=last["step"],
        steps=steps,
        epoch=last["epoch"],
        fraction=min(1.0, last["step"] / steps) if steps else None,
        examples_per_second=without_nan(last.get("examples_per_second")),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A record that is written in one move; nothing where there is none, or none of ours."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _metric_lines(path: Path, *, tail: bool = False) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        if tail and path.stat().st_size > TAIL_BYTES:
            file.seek(-TAIL_BYTES, 2)
        for line in file:
            try:
                content = json.loads(line)
            except ValueError:
                continue  # half a line, at either end
            if isinstance(content, dict):
                yield content


def _found(reader: Callable[[Path], Found], path: Path) -> Found | None:
    """What a reader finds; None where there is nothing, or nothing that it can read."""
    try:
        return reader(path)
    except (OSError, ValueError):
        return None


def _read(reader: Callable[[Path], Found], path: Path) -> Found:
    try:
        return reader(path)
    except OSError:
        raise ApiError(404, f"{path.name} is not there yet") from None
    except ValueError as error:
        said = str(error).replace(str(path), path.name)
        raise ApiError(409, f"it cannot be read: {said}") from error
