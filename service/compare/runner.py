"""Train what is missing of a comparison, and keep a record of every run."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from service.compare.grid import Grid, Run, write_plans
from service.compare.pool import run_all
from service.compare.records import (
    RUNS_FILE,
    Record,
    append_record,
    failure_of,
    is_done,
    is_settled,
    read_records,
)
from service.compare.spec import CompareSpec
from service.compare.worker import Job
from service.run_folder import RESULT_FILE, delete_whole
from service.search.shared import SharedStages

GRID_FILE = "grid.json"
LOGS = "logs"
MATMUL_FILE = "matmul.txt"
STAGES = "stages"
COSTS: Final = (
    *("seconds", "peak_memory_bytes", "own_memory_bytes", "examples_per_second"),
    *("training", "search", "stages"),
)
"""What a record says of how its run was trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Todo:
    """What is left of a comparison."""

    runs: Mapping[str, Run]
    """By hash: to be trained now."""
    warm_ups: Mapping[str, Run]
    """By hash: those that the runs need and that are not there."""
    num_done: int
    num_failed: int
    """Failed before, and left alone."""

    @property
    def num_trainings(self) -> int:
        """Runs and warm-ups together."""
        return len(self.runs) + len(self.warm_ups)


def to_do(grid: Grid, records: Mapping[str, Record], *, retry_failed: bool) -> Todo:
    """Compare what is asked for with what is recorded."""
    asked = _distinct(grid.runs)
    done = {digest for digest, run in asked.items() if is_all_there(run, records)}
    tried = asked.keys() & records.keys() - done
    failed = {digest for digest in tried if failure_of(records[digest]) is not None}
    left_alone = set() if retry_failed else failed
    runs = {d: run for d, run in asked.items() if d not in done | left_alone}
    needed = dict.fromkeys(digest for run in runs.values() for digest in run.needs)
    return Todo(
        runs=runs,
        warm_ups={d: grid.warm_ups[d] for d in needed if not _is_there(grid.warm_ups[d], records)},
        num_done=len(done),
        num_failed=len(left_alone),
    )


def _distinct(runs: Iterable[Run]) -> dict[str, Run]:
    """Runs by hash: of those that are the same training, the first, with the roundings of all."""
    found: dict[str, Run] = {}
    for run in runs:
        first = found.setdefault(run.digest, run)
        dtypes = tuple(dict.fromkeys((*first.dtypes, *run.dtypes)))
        found[run.digest] = replace(first, dtypes=dtypes)
    return found


def is_all_there(run: Run, records: Mapping[str, Record]) -> bool:
    """Whether a run is settled, and was rounded to all that is asked for."""
    record = records.get(run.digest)
    served = record.get("served", {}) if is_done(record) else run.dtypes
    return is_settled(record) and {*run.dtypes} <= {*served}


def _is_there(warm_up: Run, records: Mapping[str, Record]) -> bool:
    """Whether a warm-up was trained and its folder is still there."""
    result = warm_up.config.output / RESULT_FILE
    return is_done(records.get(warm_up.digest)) and result.is_file()


def train_missing(
    spec: CompareSpec, grid: Grid, todo: Todo, report: Callable[[Run, Record], None]
) -> None:
    """Train what is left, several at a time; every run that ends is recorded at once.

    Args:
        spec: The comparison.
        grid: All of its runs.
        todo: Those to train, and the warm-ups that come before them.
        report: Is told of every run that has ended.
    """
    write_grid(spec, grid)
    write_plans(grid)
    _train(spec, todo.warm_ups, report, kept=todo.warm_ups)
    records = read_records(spec.output / RUNS_FILE)
    ready = {}
    for digest, run in todo.runs.items():
        if failed := [name for name in run.needs if not _is_there(grid.warm_ups[name], records)]:
            error = f"its warm-up {grid.warm_ups[failed[0]].name} has failed"
            report(run, _record(spec, run, {"status": "failed", "error": error, "seconds": 0.0}))
        else:
            ready[digest] = run
    # A run may be the very training that others are warmed up by.
    _train(spec, ready, report, kept=ready if spec.keep_runs else grid.warm_ups)


def _train(
    spec: CompareSpec,
    runs: Mapping[str, Run],
    report: Callable[[Run, Record], None],
    *,
    kept: Collection[str],
) -> None:
    """Train runs; the folders of those that are ``kept``, by hash, stay."""
    before = read_records(spec.output / RUNS_FILE)
    with TemporaryDirectory() as locks:
        jobs = {d: _job(spec, run, Path(locks), keep=d in kept) for d, run in runs.items()}
        left = Counter(job.shared.folder for job in jobs.values() if job.shared is not None)
        outcomes = run_all(
            jobs, num_workers=spec.num_workers, threads=spec.threads, logs=spec.output / LOGS
        )
        with closing(outcomes):  # stops the workers at once, not when garbage is collected
            for digest, outcome in outcomes:
                report(runs[digest], _record(spec, runs[digest], outcome, before.get(digest)))
                if (shared := jobs[digest].shared) is not None:
                    left[shared.folder] -= 1
                    if not left[shared.folder] and not spec.keep_runs:
                        delete_whole(shared.folder)


def _job(spec: CompareSpec, run: Run, locks: Path, *, keep: bool) -> Job:
    job = Job(
        config=run.config,
        request=run.request,
        slices=() if run.is_warm_up else spec.slices,
        dtypes=run.dtypes,
        keep=keep,
        matmul=spec.output / MATMUL_FILE,
    )
    if run.search is None:
        return job
    base = f"{run.recipe}-{run.config.seed}"  # searches of one recipe and seed share trainings
    return replace(
        job,
        search=run.search,
        shared=SharedStages(folder=spec.output / STAGES / base, locks=locks),
        groups=(base, f"{base} {run.sizing}"),
    )


def _record(spec: CompareSpec, run: Run, outcome: Record, before: Record | None = None) -> Record:
    """Write down how a run ended; what it took is what it took the first time."""
    if is_done(outcome) and is_done(before):
        outcome |= {name: before[name] for name in COSTS if name in before}
        if served := {**before.get("served", {}), **outcome.get("served", {})}:
            outcome["served"] = served
    record = {
        "hash": run.digest,
        "recipe": run.recipe,
        "sizing": run.sizing,
        "budget": run.budget,
        "seed": run.config.seed,
        "needs": list(run.needs),
        **outcome,
    }
    append_record(spec.output / RUNS_FILE, record)
    return record


def write_grid(spec: CompareSpec, grid: Grid) -> None:
    """Write down which runs are asked for, so that the frontier can be drawn from files alone."""
    cells: dict[tuple[str, str, str], dict[str, Any]] = {}
    for run in grid.runs:
        entry = cells.setdefault(
            (run.recipe, run.sizing, run.budget),
            {
                "recipe": run.recipe,
                "sizing": run.sizing,
                "budget": run.budget,
                "budget_bytes": _bytes_of_budget(spec, run),
                "runs": {},
            },
        )
        entry["runs"][str(run.config.seed)] = run.digest
    spec.output.mkdir(parents=True, exist_ok=True)
    draft = spec.output / f".{GRID_FILE}.draft"
    content = {"cells": list(cells.values()), "infeasible": dict(grid.infeasible)}
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.rename(spec.output / GRID_FILE)


def _bytes_of_budget(spec: CompareSpec, run: Run) -> int | None:
    """What a budget comes to of the bytes that are drawn, where its plan is made already."""
    is_drawn = run.plan is not None and run.plan.budget_for == spec.bytes
    return run.plan.budget_bytes if run.plan is not None and is_drawn else None


def read_grid(spec: CompareSpec) -> dict[str, Any]:
    """Read which runs were asked for.

    Raises:
        FileNotFoundError: If nothing was ever run.
        ValueError: If the file cannot be read.
    """
    path = spec.output / GRID_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; run the comparison without --plot-only")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; run the comparison without --plot-only, which writes it anew"
        ) from error
    return content
