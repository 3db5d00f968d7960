"""Quality against bytes, as points: of a comparison, and of all runs on a dataset."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.api.home import Home
from service.api.runs import read_json
from service.compare.records import RUNS_FILE, read_records
from service.compare.statistics import Summary, summary
from service.run_folder import RESULT_FILE, RUN_FILE, SIZING_FILE, without_nan

GRID_FILE = "grid.json"
METRICS = ("auc", "mse")
"""Scores that runs are drawn by: of clicks, of ratings."""
OWN = frozenset({"seed", "output", "data", "sizing", "metrics_port", "metrics_host", "resume"})
"""Settings in which runs of one point may differ."""
SHOWN = ("steps", "epochs", "seconds", "examples_per_second")


@dataclass(frozen=True, kw_only=True, slots=True)
class PointRun:
    """A training that a point stands for."""

    seed: int
    value: float | None
    run: str | None = None
    """Name of the run, where the service keeps it."""
    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None
    examples_per_second: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierPoint:
    """A plan under a recipe: what its tables take and how good it is, over its seeds."""

    recipe: str
    method: str
    budget: str
    bytes: int
    serving_bytes: int | None = None
    metric: str
    value: float
    low: float
    """Ends of the 95 % interval of the mean; the value itself for a single seed."""
    high: float
    sd: float | None
    n: int
    widths: Mapping[str, list[int]] = field(default_factory=dict)
    """Of every field's blocks."""
    runs: list[PointRun] = field(default_factory=list)


def points_of_comparison(path: Path) -> list[FrontierPoint]:
    """The points of a comparison's folder, but for those that no run has a score for."""
    content = [
        point
        for point in without_nan(json.loads((path / "frontier.json").read_text()))
        if point["scores"][point["metric"]]["n"]
    ]
    records = read_records(path / RUNS_FILE)
    digests = {
        (cell["recipe"], cell["sizing"], cell["budget"]): cell["runs"]
        for cell in read_json(path / GRID_FILE).get("cells", ())
    }
    points = []
    for point in content:
        # A point whose tables are rounded for serving stands for the runs of the one that is not.
        cell = (point["recipe"], point["sizing"], point["budget"], *filter(None, [point["dtype"]]))
        runs = [
            _compared_run(int(seed), records[digest], point["metric"])
            for seed, digest in digests.get(cell, {}).items()
            if digest in records
        ]
        points.append(_compared_point(point, runs))
    return points


def _compared_point(point: Mapping[str, Any], runs: list[PointRun]) -> FrontierPoint:
    score = point["scores"][point["metric"]]
    spread = {name: score[name] or 0.0 for name in ("sd", "half_width")}
    interval = Summary(mean=score["mean"], n=score["n"], **spread)
    return FrontierPoint(
        recipe=point["recipe"],
        method=", ".join(filter(None, (point["sizing"], point["dtype"]))),
        budget=point["budget"],
        bytes=round(point["figures"]["training_bytes"]),
        serving_bytes=round(point["figures"]["serving_bytes"]),
        metric=point["metric"],
        value=score["mean"],
        low=interval.low,
        high=interval.high,
        sd=score["sd"],
        n=score["n"],
        widths=point["widths"],
        runs=runs,
    )


def points_of_runs(home: Home, data: str) -> list[FrontierPoint]:
    """The runs on a dataset that have ended; those that only differ in their seed are a point."""
    alike: dict[str, list[tuple[str, Path]]] = {}
    for name in home.names("runs", RUN_FILE):
        path = home.place("runs", name)
        config = read_json(path / RUN_FILE).get("config", {})
        has_scores = bool(read_json(path / RESULT_FILE).get("scores"))
        if has_scores and Path(str(config.get("data", ""))).name == data:
            settings = {key: value for key, value in config.items() if key not in OWN}
            plan = read_json(path / SIZING_FILE).get("fields")
            alike.setdefault(json.dumps([settings, plan], sort_keys=True), []).append((name, path))
    points = [point for runs in alike.values() if (point := _point_of_runs(runs)).n]
    return sorted(points, key=lambda point: (point.recipe, point.method, point.bytes))


def _point_of_runs(found: Iterable[tuple[str, Path]]) -> FrontierPoint:
    runs, records = [], []
    for name, path in found:
        record, result = read_json(path / RUN_FILE), read_json(path / RESULT_FILE)
        records.append(record)
        scores = without_nan(result["scores"])
        metric = next(name for name in METRICS if name in scores)
        runs.append(
            PointRun(
                seed=record["config"]["seed"],
                value=scores[metric],
                run=name,
                steps=result.get("steps"),
                examples_per_second=without_nan(result.get("examples_per_second")),
            )
        )
    sizing = read_json(path / SIZING_FILE)
    score = summary([run.value for run in runs if run.value is not None])
    return FrontierPoint(
        recipe=records[0]["config"]["network"]["kind"],
        method=str(sizing.get("scheme", {}).get("kind") or "by hand"),
        budget=str(sizing.get("budget") or ""),
        bytes=records[0]["training_bytes"]["planned"],
        metric=metric,
        value=score.mean,
        low=score.low,
        high=score.high,
        sd=without_nan(score.sd),
        n=score.n,
        widths=_widths(sizing),
        runs=runs,
    )


def _compared_run(seed: int, record: Mapping[str, Any], metric: str) -> PointRun:
    shown = {name: without_nan(record.get(name)) for name in SHOWN}
    return PointRun(seed=seed, value=without_nan(record.get("test", {}).get(metric)), **shown)


def _widths(sizing: Mapping[str, Any]) -> dict[str, list[int]]:
    return {
        name: [block["embedding_dim"] for block in blocks]
        for name, blocks in sizing.get("fields", {}).items()
    }
