"""A race: several contenders, taking turns, each time in a fresh process.

Turns matter more than repeats on a shared machine: a neighbour who comes and goes hits all
contenders alike. Fresh processes keep one contender's memory, threads and warm caches from the
next. What others used of the machine is measured beside every run, and runs that they disturbed
are left out where quieter ones exist.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any, Final

from service.bench.machine import Load, describe_machine, wait_until_quiet

DISTURBED_RATIO: Final = 0.1
"""Runs during which others used more than this share of the machine are not quoted."""

Figures = Mapping[str, float]
"""What a run measured, by name with unit: ``examples_per_second``, ``auc``, ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What figures are of."""

    name: str
    about: str
    """What it is, in a few words, for the reader of the table."""
    is_bound: bool = False
    """Whether it is a limit to compare with: it does less than the whole work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender(Subject):
    """One way to do the work that is raced."""

    run: Callable[[int], Figures]
    """Does the work for a repetition, numbered from 0; must be picklable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceConfig:
    """How contenders are raced."""

    repeats: int = 5
    """Runs of every contender."""

    quiet_seconds: float = 20.0
    """Longest wait for other users of the machine to pause, before each run."""

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.quiet_seconds < 0:
            raise ValueError(
                f"repeats={self.repeats}, quiet_seconds={self.quiet_seconds}; expected at least "
                f"one repeat and a wait of 0 or more"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One repetition of one contender."""

    contender: str
    repetition: int
    figures: Figures
    foreign_ratio: float
    """Share of the machine that others used meanwhile, the hypervisor included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Median and range of a figure over the runs that count."""

    median: float
    min: float
    max: float
    num_runs: int
    num_left_out: int
    """Runs that others disturbed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a benchmark measured."""

    benchmark: str
    headline: str
    """The figure that the contenders are compared by."""
    options: Mapping[str, Any]
    contenders: Sequence[Subject]
    runs: Sequence[Run]
    machine: Mapping[str, Any] = field(default_factory=describe_machine)

    def spread(self, contender: str, figure: str) -> Spread | None:
        """Summarise a figure; None where no run of the contender has it."""
        runs = [run for run in self.runs if run.contender == contender and figure in run.figures]
        if not runs:
            return None
        quiet = [run for run in runs if run.foreign_ratio <= DISTURBED_RATIO]
        values = [run.figures[figure] for run in quiet or runs]
        return Spread(
            median=statistics.median(values),
            min=min(values),
            max=max(values),
            num_runs=len(values),
            num_left_out=len(runs) - len(values),
        )

    def figures(self) -> list[str]:
        """Every figure that some run has, the headline first."""
        names = dict.fromkeys(name for run in self.runs for name in run.figures)
        return [self.headline, *(name for name in names if name != self.headline)]

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file that others can check."""
        return {
            "benchmark": self.benchmark,
            "headline": self.headline,
            "options": dict(self.options),
            "machine": dict(self.machine),
            "contenders": {
                contender.name: {
                    "about": contender.about,
                    "is_bound": contender.is_bound,
                    "figures": {
                        name: asdict(spread)
                        for name in self.figures()
                        if (spread := self.spread(contender.name, name))
                    },
                }
                for contender in self.contenders
            },
            "runs": [asdict(run) for run in self.runs],
        }


OnRun = Callable[[Report], None]
"""Given everything so far whenever there are new runs."""


def silent(_so_far: Report) -> None:
    """Tell nobody."""


def race(
    contenders: Sequence[Contender],
    config: RaceConfig,
    on_run: OnRun = silent,
    *,
    benchmark: str,
    headline: str,
    options: Mapping[str, Any],
) -> Report:
    """Let the contenders take turns.

    Args:
        contenders: Who takes part.
        config: How often, and how patiently.
        on_run: Told after every run.
        benchmark: Name of the report.
        headline: The figure that the contenders are compared by.
        options: What the report says of the race.

    Raises:
        ValueError: If two contenders share a name.
    """
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise ValueError(f"contenders {names} share names; give every one its own")
    runs: list[Run] = []
    report = Report(
        benchmark=benchmark, headline=headline, options=options, contenders=contenders, runs=runs
    )
    for repetition in range(config.repeats):
        for contender in contenders:
            wait_until_quiet(max_ratio=DISTURBED_RATIO, timeout_seconds=config.quiet_seconds)
            before = Load.now()
            figures = _in_fresh_process(contender.run, repetition)
            runs.append(
                Run(
                    contender=contender.name,
                    repetition=repetition,
                    figures=figures,
                    foreign_ratio=Load.now().foreign_ratio_since(before),
                )
            )
            on_run(report)
    return report


def _in_fresh_process(run: Callable[[int], Figures], repetition: int) -> Figures:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, repetition).result()
