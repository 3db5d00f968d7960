"""Quality against bytes: records of runs become points with a mean and a spread."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

from service.compare.costs import Cost, cost_of
from service.compare.records import Record, is_done
from service.compare.spec import CompareSpec, Metric
from service.compare.statistics import Summary, paired_difference, summary
from service.data.dataset import Split

Cell = tuple[str, str, str]
"""Recipe, sizing and budget."""

LOWER_IS_BETTER: Final = frozenset({"mse", "rmse", "log_loss", "ne"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One plan under one recipe, over its seeds."""

    recipe: str = ""
    sizing: str = ""
    budget: str = ""
    budget_bytes: int | None = None
    """What the budget comes to, where that is known without a search."""
    dtype: str = ""
    """What its tables are rounded to for serving; nothing where they are as they were trained."""
    figures: Mapping[str, float]
    """The four figures of a plan; a mean where they depend on the seed."""
    widths: Mapping[str, Sequence[int]]
    """Of the first seed."""
    scores: Mapping[str, Summary]
    """Every score of the split."""
    split: Split = "test"
    """What was scored: where a dataset has no test rows, its validation split."""
    metric: Metric
    """The score that is drawn."""
    difference: Summary | None = None
    """Paired by seed: this sizing minus the baseline at the same budget, in fp32."""
    slices: Mapping[str, Mapping[str, Mapping[str, Summary]]]
    """Scores by field and slice of frequency."""
    seconds: float
    """Mean time of a run."""
    warm_up_seconds: float
    """Mean time of the warm-ups that came before it."""
    cost: Cost
    """What finding and training it takes."""

    @property
    def name(self) -> str:
        """The sizing, and what its tables are rounded to."""
        return f"{self.sizing}, {self.dtype}" if self.dtype else self.sizing

    @property
    def score(self) -> Summary:
        """The score that is drawn."""
        return self.scores[self.metric]

    @property
    def verdict(self) -> str:
        """Whether the paired interval leaves zero out, and on which side."""
        difference = self.difference
        if difference is None or difference.n < 2 or difference.low <= 0 <= difference.high:
            return ""
        is_lower = difference.mean < 0
        return "better" if is_lower == (self.metric in LOWER_IS_BETTER) else "worse"


def frontier(
    spec: CompareSpec, cells: Sequence[Mapping[str, Any]], records: Mapping[str, Record]
) -> list[Point]:
    """Points of all cells that have a finished run, in the order of recipes, sizings, bytes.

    Args:
        spec: Names the baseline and the metric.
        cells: Recipe, sizing, budget and the hashes of their runs by seed.
        records: Records by hash.
    """
    done = {
        (cell["recipe"], cell["sizing"], cell["budget"]): {
            int(seed): records[digest]
            for seed, digest in cell["runs"].items()
            if is_done(records.get(digest))
        }
        for cell in cells
    }
    budget_bytes = {
        (cell["recipe"], cell["sizing"], cell["budget"]): cell.get("budget_bytes") for cell in cells
    }
    points = []
    for (recipe, sizing, budget), runs in done.items():
        if not runs:
            continue
        baseline = done.get((recipe, spec.baseline, budget), {}) if budget else {}
        rival = baseline if sizing != spec.baseline else {}
        cost = cost_of(runs, _base_training(spec, recipe, done), records)
        point = _point(runs, rival, _metric(spec, runs), cost, records)
        point = replace(
            point,
            recipe=recipe,
            sizing=sizing,
            budget=budget,
            budget_bytes=budget_bytes[recipe, sizing, budget],
        )
        points += [point, *_served(point, spec.dtypes_of(budget), runs, baseline)]
    order = {name: place for place, name in enumerate([*spec.recipes, *spec.sizings])}
    return sorted(
        points,
        key=lambda p: (order.get(p.recipe, 0), order.get(p.sizing, 0), num_bytes(spec, p)),
    )


def _point(
    runs: Mapping[int, Record],
    rival: Mapping[int, Record],
    metric: Metric,
    cost: Cost,
    records: Mapping[str, Record],
) -> Point:
    """What the seeds of one plan say, compared with those of the baseline."""
    of_seeds = list(runs.values())
    before = [sum(records[name]["seconds"] for name in run.get("needs", ())) for run in of_seeds]
    return Point(
        figures=_means([run["bytes"] for run in of_seeds]),
        widths=of_seeds[0]["widths"],
        scores=_summaries([run["test"] for run in of_seeds]),
        split=of_seeds[0].get("split", "test"),
        metric=metric,
        difference=paired_difference(_scores(runs, metric), _scores(rival, metric)),
        slices=_slices([run.get("slices", {}) for run in of_seeds]),
        seconds=fmean(run["seconds"] for run in of_seeds),
        warm_up_seconds=fmean(before),
        cost=cost,
    )


def _served(
    point: Point,
    dtypes: Sequence[str],
    runs: Mapping[int, Record],
    baseline: Mapping[int, Record],
) -> Iterator[Point]:
    """The same plan with its tables rounded, wherever that was scored."""
    for dtype in dtypes:
        found = {seed: run.get("served", {}).get(dtype, {}) for seed, run in runs.items()}
        scored = {seed: served for seed, served in found.items() if "test" in served}
        if not scored:
            continue
        theirs = _scores(baseline, point.metric)
        yield replace(
            point,
            dtype=dtype,
            figures={
                **point.figures,
                "serving_bytes": fmean(served["serving_bytes"] for served in scored.values()),
            },
            scores=_summaries([served["test"] for served in scored.values()]),
            difference=paired_difference(_scores(scored, point.metric), theirs),
            slices={},
        )


def _base_training(
    spec: CompareSpec, recipe: str, done: Mapping[Cell, Mapping[int, Record]]
) -> Mapping[int, Record]:
    """The baseline's runs of the most bytes, which costs are counted in."""
    of_baseline = [
        runs for cell, runs in done.items() if cell[:2] == (recipe, spec.baseline) and runs
    ]
    return max(
        of_baseline,
        key=lambda runs: next(iter(runs.values()))["bytes"]["training_bytes"],
        default={},
    )


def num_bytes(spec: CompareSpec, point: Point) -> float:
    """The bytes that are drawn."""
    return point.figures[f"{spec.bytes}_bytes"]


def _metric(spec: CompareSpec, runs: Mapping[int, Record]) -> Metric:
    scores = next(iter(runs.values()))["test"]
    if spec.metric == "auto":
        return "mse" if "mse" in scores else "auc"
    if spec.metric not in scores:
        raise ValueError(
            f"metric={spec.metric!r} is no score of these runs, which have {', '.join(scores)}"
        )
    return spec.metric


def _scores(runs: Mapping[int, Record], metric: str) -> dict[int, float]:
    values = {seed: run["test"][metric] for seed, run in runs.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def _summaries(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Summary]:
    """Every score over the seeds that have it: labels of one kind have no AUC."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [v for row in rows if (v := row.get(name)) is not None] for name in names}
    return {name: summary(of) for name, of in values.items()}


def _slices(
    runs: Sequence[Mapping[str, Mapping[str, Mapping[str, float | None]]]],
) -> dict[str, dict[str, dict[str, Summary]]]:
    fields = dict.fromkeys(field for run in runs for field in run)
    return {
        field: {
            name: _summaries([run[field][name] for run in runs if name in run.get(field, {})])
            for name in dict.fromkeys(name for run in runs for name in run.get(field, {}))
        }
        for field in fields
    }
