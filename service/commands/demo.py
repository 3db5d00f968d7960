"""``mixdim demo``: the whole job, verb by verb, from raw Criteo lines to a table of plans."""

import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from models.sizing import plan_bytes
from service.run_folder import RESULT_FILE
from service.sizing import read_sizing

POPULARITY = ("--scheme", "popularity", "--max-dim", "32")
SPECTRAL = ("--scheme", "spectral", "--warm-up", "{uniform 16}")
WARM = ("--warm-start", "{uniform 16}")
PLANS = {
    "uniform 16": (("--scheme", "uniform", "--dim", "16"), ()),
    "popularity, same bytes": ((*POPULARITY, "--budget", "1x"), ()),
    "popularity, 4x fewer": ((*POPULARITY, "--budget", "4x"), ()),
    "popularity, 10x fewer": ((*POPULARITY, "--budget", "10x"), ()),
    "spectral, 10x fewer": ((*SPECTRAL, "--budget", "10x"), WARM),
}
"""Flags of ``size`` and of ``train``; ``{NAME}`` stands for the run folder of a plan above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoCommand:
    """Run every verb once: prepare, size five ways, train each on two ranks, compare."""

    input: Path | None = None
    """Raw log in the form of Criteo's train.txt (.gz and .zst too); made up where none is given."""

    output: Path = Path("demo")
    """Folder for the raw text, the dataset, the plans and the runs; a new one replaces the old."""

    rows: int = 500_000
    """Rows to make up."""

    network: str = "dlrm"
    """Preset to train: dlrm or deepfm."""

    nproc: int = 2
    """Ranks."""

    batch_size: int = 1024
    """Examples per rank and step."""

    json: bool = False
    """Print the table as JSON; what the verbs print goes to stderr."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trained:
    """A line of the table."""

    plan: str
    tables_by_width: dict[int, int]
    training_bytes: int
    auc: float | None
    """None where the test split has labels of one kind."""
    log_loss: float
    examples_per_second: float
    sizing: str
    run: str


def main(argv: Sequence[str]) -> int:
    """Run the verbs as a person would, and end in one table."""
    demo = tyro.cli(DemoCommand, args=list(argv), prog="mixdim demo")
    mixdim = partial(_mixdim, sys.stderr if demo.json else sys.stdout)
    started = time.monotonic()
    demo.output.mkdir(parents=True, exist_ok=True)
    raw = demo.input or demo.output / "raw.tsv"
    if demo.input is None:
        mixdim("prepare", "synthetic", "--rows", str(demo.rows), "--raw", str(raw))
    data = demo.output / "data"
    mixdim("prepare", "criteo", str(raw), "--output", str(data), "--overwrite", "--min-count", "5")
    found: dict[str, _Trained] = {}
    for name, (size_flags, train_flags) in PLANS.items():
        folder = demo.output / name.replace(", ", "-").replace(" ", "-")
        folder.mkdir(exist_ok=True)
        runs = {name: own.run for name, own in found.items()}
        chosen = (flag.format_map(runs) for flag in size_flags)
        mixdim("size", str(data), *chosen, "--output", str(folder / "sizing.json"))
        start = [flag.format_map(runs) for flag in train_flags]
        found[name] = _trained(name, demo, mixdim, folder, start)
    if demo.json:
        print(json.dumps([asdict(own) for own in found.values()], indent=1))
        return 0
    print()
    Console(width=100).print(_table(found.values()))
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"{minutes}:{seconds:02d} minutes; everything is in {demo.output}/")
    return 0


def _trained(
    name: str, demo: DemoCommand, mixdim: Callable[..., None], folder: Path, start: Sequence[str]
) -> _Trained:
    """Train a plan and score it on the test split."""
    sizing, run = folder / "sizing.json", folder / "run"
    mixdim(
        *("train", demo.network, "--data", str(demo.output / "data"), "--sizing", str(sizing)),
        *("--output", str(run), "--overwrite"),
        *("--nproc", str(demo.nproc), "--batch-size", str(demo.batch_size)),
        *start,
    )
    mixdim("evaluate", str(run), "--nproc", str(demo.nproc))
    result: dict[str, Any] = json.loads((run / RESULT_FILE).read_text())
    plan = read_sizing(sizing)
    return _Trained(
        plan=name,
        tables_by_width=dict(sorted(Counter(plan.plan.dims().values()).items())),
        training_bytes=plan_bytes(plan.plan, plan.optimizer).training_bytes,
        auc=result["scores"]["auc"],
        log_loss=result["scores"]["log_loss"],
        examples_per_second=result["examples_per_second"],
        sizing=str(sizing),
        run=str(run),
    )


def _table(found: Iterable[_Trained]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("plan", "widths x tables", "bytes", "AUC", "log loss", "examples/s"):
        table.add_column(title, justify="left" if title == "plan" else "right")
    for own in found:
        table.add_row(
            own.plan,
            "  ".join(f"{width}x{number}" for width, number in own.tables_by_width.items()),
            f"{own.training_bytes:,}",
            "" if own.auc is None else f"{own.auc:.4f}",
            f"{own.log_loss:.4f}",
            f"{own.examples_per_second:,.0f}",
        )
    return table


def _mixdim(story: TextIO, *arguments: str) -> None:
    """Show a command and run it; what it prints is part of the story.

    Raises:
        ValueError: If it fails; its own message stands above.
    """
    story.write(f"\n$ mixdim {shlex.join(arguments)}\n")
    story.flush()
    command = [sys.executable, "-m", "service", *arguments]
    code = subprocess.run(command, stdout=story, check=False).returncode
    if code:
        raise ValueError(
            f"mixdim {arguments[0]} ended with exit code {code}, expected 0; its message is above"
        )
