"""``mixdim compare SPEC.toml``: quality against bytes, over sizings, budgets and seeds."""

import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.tables import PlanError
from service.compare.choices import read_spec
from service.compare.figures import figures_of
from service.compare.frontier import frontier
from service.compare.grid import Grid, Run, expand
from service.compare.records import (
    RUNS_FILE,
    Record,
    failure_of,
    is_done,
    read_records,
    torn_lines,
)
from service.compare.runner import is_all_there, read_grid, to_do, train_missing
from service.compare.spec import CompareSpec
from service.compare.tables import OWN, as_csv, as_json, as_markdown
from service.run_folder import RunFolder

EXIT_SOME_FAILED: Final = 1
KEYS_OF_FLAGS: Final = (
    "Flags are those of `mixdim size` and `mixdim search`: here they are keys of the sizing "
    '(rows = "auto"), but for budgets and --base-dim, which is dim.'
)
TALK_OF_SIZING: Final = ("service.sizing_request", "service.sizing_budget")
"""They warn of plans that are large by themselves; here the bytes of all plans stand in a table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareCommand:
    """Train sizings x budgets x seeds, and draw quality against bytes."""

    spec: tyro.conf.Positional[Path]
    """TOML or JSON file: recipes, sizings, budgets, seeds; docs/compare.md describes it."""

    data: Path | None = None
    """Dataset folder; overrides the file's."""

    output: Path | None = None
    """Folder of records and frontier; overrides the file's."""

    parallel: int | None = None
    """Runs at a time; overrides the file's."""

    recipes: tuple[str, ...] = ()
    """Only train runs of these recipes; the frontier shows all that is done."""

    sizings: tuple[str, ...] = ()
    """Only train runs of these sizings."""

    budgets: tuple[str, ...] = ()
    """Only train runs of these budgets; ``own`` for plans without one."""

    seeds: tuple[int, ...] = ()
    """Only train runs of these seeds."""

    dry_run: bool = False
    """List the runs, or those of the part that is named, their bytes and what is done already;
    train nothing."""

    plot_only: bool = False
    """Draw the frontier anew from the records; train nothing, and need no dataset."""

    retry_failed: bool = False
    """Train runs again that have failed before."""

    json: bool = False
    """Print frontier.json instead of the Markdown table."""


def main(argv: Sequence[str]) -> int:
    """Train what is missing, then write and print the frontier."""
    command = tyro.cli(CompareCommand, args=list(argv), prog="mixdim compare")
    changes = {
        name: value
        for name in ("data", "output", "parallel")
        if (value := getattr(command, name)) is not None
    }
    spec = replace(read_spec(command.spec), **changes)
    for number in torn_lines(records := spec.output / RUNS_FILE):
        sys.stderr.write(f"{records}: line {number} cannot be read; its run counts as not done\n")
    if command.plot_only:
        return _draw(spec, as_json_too=command.json)
    try:
        with _silenced(TALK_OF_SIZING):
            grid = expand(spec)
    except PlanError:
        raise
    except ValueError as error:
        raise ValueError(f"{command.spec}: {error}") from error
    part = replace(grid, runs=tuple(_chosen(grid.runs, command)))
    todo = to_do(part, _records(spec), retry_failed=command.retry_failed)
    if command.dry_run:
        return _list(spec, part)
    for place, why in grid.infeasible.items():
        sys.stderr.write(f"left out: {place}: {why}\n")
    if grid.infeasible:
        sys.stderr.write(f"{KEYS_OF_FLAGS}\n")
    sys.stderr.write(
        f"{len(todo.runs)} runs to train, {todo.num_done} done before, {todo.num_failed} failed "
        f"before; {len(todo.warm_ups)} warm-ups; {spec.num_workers} at a time\n"
    )
    held = RunFolder(spec.output).held()
    try:
        with held, _stopped_by_sigterm(), _shown(todo.num_trainings) as report:
            train_missing(spec, grid, todo, report)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        raise
    return _draw(spec, as_json_too=command.json)


def name_of(record: Record) -> str:
    """What a person calls a recorded run, its seed left out."""
    return " ".join(filter(None, (record["recipe"], record["sizing"], record["budget"])))


def _chosen(runs: Sequence[Run], command: CompareCommand) -> Iterator[Run]:
    """The runs that the command is about.

    Raises:
        ValueError: If it names something that the comparison does not have.
    """
    for flag, wanted in (
        ("recipes", command.recipes),
        ("sizings", command.sizings),
        ("budgets", command.budgets),
        ("seeds", command.seeds),
    ):
        known = {_parts(run)[flag] for run in runs}
        if unknown := sorted(set(wanted) - known, key=str):
            said = ", ".join(sorted(map(str, known)))
            raise ValueError(f"--{flag} {unknown[0]}: no run has it; {flag}: {said}")
    for run in runs:
        parts = _parts(run)
        if all(not (w := getattr(command, flag)) or part in w for flag, part in parts.items()):
            yield run


def _parts(run: Run) -> dict[str, str | int]:
    return {
        "recipes": run.recipe,
        "sizings": run.sizing,
        "budgets": run.budget or OWN,
        "seeds": run.config.seed,
    }


@contextmanager
def _silenced(names: Sequence[str]) -> Iterator[None]:
    """Keep loggers from warning for a while."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _records(spec: CompareSpec) -> dict[str, Record]:
    return read_records(spec.output / RUNS_FILE)


def _draw(spec: CompareSpec, *, as_json_too: bool) -> int:
    """Write the frontier and print it; failed runs are named on stderr."""
    grid, records = read_grid(spec), _records(spec)
    points = frontier(spec, grid["cells"], records)
    asked = {digest for cell in grid["cells"] for digest in cell["runs"].values()}
    settled, unserved, failed = {}, {}, []
    for record in (records[digest] for digest in sorted(asked & records.keys())):
        served = record.get("served", {})
        dtypes = spec.dtypes_of(record["budget"])
        is_whole = is_done(record) and {*dtypes} <= served.keys()
        if not is_whole and (error := failure_of(record)) is not None:
            failed.append({**record, "error": error})
        elif not is_done(record):
            settled[name_of(record)] = record["error"]
        for dtype in dtypes:
            if "error" in served.get(dtype, {}):
                unserved[f"{name_of(record)}, {dtype}"] = served[dtype]["error"]
    missing = {"No plan fits": grid["infeasible"] | settled, "Cannot be served so": unserved}
    texts = {
        "frontier.json": as_json(points),
        "frontier.csv": as_csv(points),
        "frontier.md": as_markdown(spec, points, missing),
    }
    for name, text in texts.items():
        (spec.output / name).write_text(text)
    if points:
        from service.compare.plot import draw

        draw(spec, points)
    sys.stdout.write(texts["frontier.json" if as_json_too else "frontier.md"])
    for record in failed:
        sys.stderr.write(f"failed: {name_of(record)} seed {record['seed']}: {record['error']}\n")
    if failed:
        sys.stderr.write(f"{len(failed)} runs failed; --retry-failed trains them again\n")
    return EXIT_SOME_FAILED if failed else 0


def _list(spec: CompareSpec, grid: Grid) -> int:
    """Print every plan with its bytes, and how many of its seeds are done."""
    records = _records(spec)
    cells: dict[tuple[str, str, str], list[Run]] = {}
    for run in grid.runs:
        cells.setdefault((run.recipe, run.sizing, run.budget), []).append(run)
    print(f"{'recipe':16} {'sizing':24} {'budget':12} {'EP':>12} {'training bytes':>15}  done")
    for (recipe, sizing, budget), runs in cells.items():
        ep, num_bytes = "", "to be searched" if runs[0].search else "after a warm-up"
        if (plan := runs[0].plan) is not None:
            figures = figures_of(plan, runs[0].config)
            ep, num_bytes = (
                f"{figures[name]:,}" for name in ("embedding_params", "training_bytes")
            )
        done = sum(is_all_there(run, records) for run in runs)
        print(
            f"{recipe:16} {sizing:24} {budget or OWN:12} {ep:>12} {num_bytes:>15}  "
            f"{done}/{len(runs)}"
        )
    for place, why in grid.infeasible.items():
        print(f"no plan fits: {place}: {why}")
    num_done = sum(is_all_there(run, records) for run in grid.runs)
    print(f"{len(grid.runs)} runs, {num_done} done")
    return 0


@contextmanager
def _shown(num_runs: int) -> Iterator["_Report"]:
    """Yield a function that shows every run that has ended."""
    console = Console(file=sys.stderr)
    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield _Report(bar, num_runs)


class _Report:
    def __init__(self, bar: Progress, num_runs: int) -> None:
        self._bar, self._num_runs, self._num_ended = bar, num_runs, 0
        self._task = bar.add_task("", total=num_runs)

    def __call__(self, run: Run, record: Record) -> None:
        text = f"{run.name}: {_result(record)}"
        self._num_ended += 1
        self._bar.update(self._task, advance=1, description=text)
        if self._bar.disable:
            sys.stderr.write(f"{self._num_ended}/{self._num_runs} {text}\n")


def _result(record: Record) -> str:
    if not is_done(record):
        return f"{record['status']}: {record['error']}"
    name = "mse" if "mse" in record["test"] else "auc"
    value = record["test"][name]
    score = "no score" if value is None else f"{record['split']} {name} {value:.5f}"
    return f"{score} in {record['seconds']:.1f} s"


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """A scheduler's signal stops a comparison like Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
