"""What finding a plan costs, in multiples of a base training: the baseline's of the most bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from service.compare.records import Record

Unit = Literal["examples", "seconds"]
UNITS: tuple[Unit, ...] = ("examples", "seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Means over seeds; None where a record does not say."""

    search: Mapping[Unit, float]
    """Of all that comes before the last training: the search, or the warm-ups."""
    training: Mapping[Unit, float]
    """Of the last training. Seconds are of steps, loading included, without validations."""
    search_ratio: Mapping[Unit, float | None]
    """Search by base training, paired by seed."""
    memory_ratio: float | None
    """Peak memory of the search, or of the training where there is none, by that of the base
    training; what the process held before is left out of both."""
    is_searched: bool = False
    """Whether a search says so, and not the sum of warm-ups."""

    def total(self, unit: Unit) -> float:
        """Search and training together."""
        return self.search[unit] + self.training[unit]


def cost_of(
    runs: Mapping[int, Record], base: Mapping[int, Record], records: Mapping[str, Record]
) -> Cost:
    """What the runs of one plan cost.

    Args:
        runs: Records by seed.
        base: Those of the base training by seed.
        records: All records by hash, warm-ups too.
    """
    both = [(runs[seed], base[seed]) for seed in sorted(runs.keys() & base.keys())]
    return Cost(
        search={u: fmean(_search(run, records)[u] for run in runs.values()) for u in UNITS},
        training={u: fmean(_training(run)[u] for run in runs.values()) for u in UNITS},
        search_ratio={
            unit: _mean_ratio((_search(a, records)[unit], _training(b)[unit]) for a, b in both)
            for unit in UNITS
        },
        memory_ratio=_mean_ratio((_memory(a), _memory(b)) for a, b in both),
        is_searched=any("search" in run for run in runs.values()),
    )


def _training(run: Record) -> Mapping[Unit, float]:
    found: Mapping[Unit, float] = run.get("training") or {"examples": 0, "seconds": run["seconds"]}
    return found


def _search(run: Record, records: Mapping[str, Record]) -> Mapping[Unit, float]:
    if found := run.get("search"):
        return {unit: found[unit] for unit in UNITS}
    before = [_training(records[name]) for name in run.get("needs", ())]
    return {unit: sum(cost[unit] for cost in before) for unit in UNITS}


def _memory(run: Record) -> float | None:
    """Most memory above what the process held before."""
    search = run.get("search", {})
    has_stages = any(search.get(unit) for unit in UNITS)
    found: float | None = (search if has_stages else run).get("own_memory_bytes")
    return found


def _mean_ratio(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    ratios = [a / b for a, b in pairs if a is not None and b is not None and b > 0]
    return fmean(ratios) if ratios else None
