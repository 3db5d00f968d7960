"""``mixdim demo``: the whole job, verb by verb, from raw Criteo lines to a table of plans."""

import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def main(argv: Sequence[str]) -> int:
    """Run the verbs as a person would, and end in one table."""
    demo = tyro.cli(DemoCommand, args=list(argv), prog="mixdim demo")
    started = time.monotonic()
    demo.output.mkdir(parents=True, exist_ok=True)
    raw = demo.input or demo.output / "raw.tsv"
    if demo.input is None:
        _mixdim("prepare", "synthetic", "--rows", str(demo.rows), "--raw", str(raw))
    data = demo.output / "data"
    _mixdim("prepare", "criteo", str(raw), "--output", str(data), "--overwrite", "--min-count", "5")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("plan", "widths x tables", "bytes", "AUC", "log loss", "examples/s"):
        table.add_column(title, justify="left" if title == "plan" else "right")
    runs: dict[str, str] = {}
    for name, (size_flags, train_flags) in PLANS.items():
        folder = demo.output / name.replace(", ", "-").replace(" ", "-")
        folder.mkdir(exist_ok=True)
        sizing, runs[name] = str(folder / "sizing.json"), str(folder / "run")
        chosen = (flag.format_map(runs) for flag in size_flags)
        _mixdim("size", str(data), *chosen, "--output", sizing)
        start = [flag.format_map(runs) for flag in train_flags]
        table.add_row(name, *_trained(demo, data, folder, start))
    print()
    Console(width=100).print(table)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"{minutes}:{seconds:02d} minutes; everything is in {demo.output}/")
    return 0


def _trained(demo: DemoCommand, data: Path, folder: Path, start: Sequence[str]) -> tuple[str, ...]:
    """Train a plan and score it on the test split: the cells of its row."""
    sizing, run = folder / "sizing.json", folder / "run"
    _mixdim(
        *("train", demo.network, "--data", str(data), "--sizing", str(sizing)),
        *("--output", str(run), "--overwrite"),
        *("--nproc", str(demo.nproc), "--batch-size", str(demo.batch_size)),
        *start,
    )
    _mixdim("evaluate", str(run), "--nproc", str(demo.nproc))
    result: dict[str, Any] = json.loads((run / RESULT_FILE).read_text())
    plan = read_sizing(sizing)
    widths = Counter(plan.plan.dims().values())
    return (
        "  ".join(f"{width}x{count}" for width, count in sorted(widths.items())),
        f"{plan_bytes(plan.plan, plan.optimizer).training_bytes:,}",
        f"{result['scores']['auc']:.4f}",
        f"{result['scores']['log_loss']:.4f}",
        f"{result['examples_per_second']:,.0f}",
    )


def _mixdim(*arguments: str) -> None:
    """Show a command and run it.

    Raises:
        ValueError: If it fails; its own message stands above.
    """
    print(f"\n$ mixdim {shlex.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "service", *arguments], check=False).returncode
    if code:
        raise ValueError(
            f"mixdim {arguments[0]} ended with exit code {code}, expected 0; its message is above"
        )
