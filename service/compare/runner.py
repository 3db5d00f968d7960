"""Train what is missing of a comparison, and keep a record of every run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.compare.grid import RUNS, Grid, Run, write_plans
from service.compare.pool import run_all
from service.compare.records import RUNS_FILE, Record, append_record, is_done
from service.compare.spec import CompareSpec
from service.compare.worker import Job

GRID_FILE = "grid.json"
LOGS = "logs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Todo:
    """What is left of a comparison."""

    runs: Mapping[str, Run]
    """By hash: to be trained now."""
    num_done: int
    num_failed: int
    """Failed before, and left alone."""


def to_do(grid: Grid, records: Mapping[str, Record], *, retry_failed: bool) -> Todo:
    """Compare what is asked for with what is recorded."""
    asked = {run.digest: run for run in grid.runs}
    failed = {d for d in asked if d in records and not is_done(records[d])}
    done = {d for d in asked if is_done(records.get(d))}
    left_alone = set() if retry_failed else failed
    return Todo(
        runs={d: run for d, run in asked.items() if d not in done | left_alone},
        num_done=len(done),
        num_failed=len(left_alone),
    )


def train_missing(
    spec: CompareSpec, grid: Grid, todo: Todo, report: Callable[[Run, Record], None]
) -> None:
    """Train what is left, several at a time; every run that ends is recorded at once.

    Args:
        spec: The comparison.
        grid: All of its runs.
        todo: Those to train.
        report: Is told of every run that has ended.
    """
    write_grid(spec, grid)
    write_plans(grid)
    jobs = {digest: _job(spec, run) for digest, run in todo.runs.items()}
    outcomes = run_all(
        jobs, num_workers=spec.num_workers, threads=spec.threads, logs=spec.output / LOGS
    )
    try:
        for digest, outcome in outcomes:
            record = _head(todo.runs[digest]) | outcome
            append_record(spec.output / RUNS_FILE, record)
            report(todo.runs[digest], record)
    finally:
        outcomes.close()  # stops the workers at once, not when garbage is collected


def _job(spec: CompareSpec, run: Run) -> Job:
    folder = spec.output / RUNS / run.digest
    config = replace(
        run.cell.config,
        seed=run.seed,
        output=folder,
        resume=True,  # where a stopped comparison has left it; else from the start
        keep_checkpoints=1,
        checkpoint_every=0,
    )
    return Job(config=config, slices=spec.slices, keep=spec.keep_runs)


def _head(run: Run) -> Record:
    """What is known of a run before it starts."""
    cell = run.cell
    return {
        "hash": run.digest,
        "recipe": cell.recipe,
        "sizing": cell.sizing,
        "budget": cell.budget,
        "seed": run.seed,
        "widths": widths(run),
        "bytes": cell.figures,
    }


def widths(run: Run) -> dict[str, list[int]]:
    """Used widths of every field, block by block."""
    fields = run.cell.plan.fields
    return {name: [block.embedding_dim for block in blocks] for name, blocks in fields.items()}


def write_grid(spec: CompareSpec, grid: Grid) -> None:
    """Write down which runs are asked for, so that the frontier can be drawn from files alone."""
    cells: dict[tuple[str, str, str], dict[str, Any]] = {}
    for run in grid.runs:
        cell = run.cell
        entry = cells.setdefault(
            (cell.recipe, cell.sizing, cell.budget),
            {"recipe": cell.recipe, "sizing": cell.sizing, "budget": cell.budget, "runs": {}},
        )
        entry["runs"][str(run.seed)] = run.digest
    spec.output.mkdir(parents=True, exist_ok=True)
    draft = spec.output / f".{GRID_FILE}.draft"
    content = {"cells": list(cells.values()), "infeasible": dict(grid.infeasible)}
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.rename(spec.output / GRID_FILE)


def read_grid(spec: CompareSpec) -> dict[str, Any]:
    """Read which runs were asked for.

    Raises:
        FileNotFoundError: If nothing was ever run.
    """
    path = spec.output / GRID_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; run the comparison without --plot-only")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
