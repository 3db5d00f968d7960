"""``mixdim bench NAME``: figures with spread, as table and JSON."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from textwrap import fill
from types import MappingProxyType
from typing import Annotated, Final

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from service.bench.checkpoint_options import CheckpointConfig
from service.bench.harness import Report, Run, Spread
from service.bench.ingest import IngestConfig
from service.bench.options import (
    LoaderConfig,
    LookupConfig,
    PlansConfig,
    RaceOfPeersConfig,
    ScaleConfig,
    StepConfig,
)

PLAIN_WIDTH = 200
"""Columns of the table where stdout is a file or a pipe."""

HEADER_WIDTH = 12

Benchmark = (
    Annotated[StepConfig, tyro.conf.subcommand("step")]
    | Annotated[LoaderConfig, tyro.conf.subcommand("loader")]
    | Annotated[LookupConfig, tyro.conf.subcommand("lookup")]
    | Annotated[PlansConfig, tyro.conf.subcommand("plans")]
    | Annotated[CheckpointConfig, tyro.conf.subcommand("checkpoint")]
    | Annotated[IngestConfig, tyro.conf.subcommand("ingest")]
    | Annotated[RaceOfPeersConfig, tyro.conf.subcommand("race")]
    | Annotated[ScaleConfig, tyro.conf.subcommand("scale")]
)

MODULES: Final[Mapping[type, str]] = MappingProxyType(
    {
        StepConfig: "service.bench.step",
        LoaderConfig: "service.bench.loader",
        LookupConfig: "service.bench.lookup",
        PlansConfig: "service.bench.plans",
        CheckpointConfig: "service.bench.checkpoint",
        IngestConfig: "service.bench.ingest",
        RaceOfPeersConfig: "service.bench.race",
        ScaleConfig: "service.bench.scale",
    }
)
"""Where each benchmark is; loaded only when it runs."""

UNITS: Final[Mapping[str, Callable[[float], str]]] = MappingProxyType(
    {
        "examples_per_second": lambda value: f"{value / 1e3:,.1f} k",
        "examples_per_cpu_second": lambda value: f"{value / 1e3:,.1f} k",
        "peak_rss_bytes": lambda value: f"{value / 2**20:,.0f} MiB",
        **dict.fromkeys(
            (
                "traffic_bytes_per_step",
                "length_bytes",
                "id_bytes",
                "vector_bytes",
                "gradient_bytes",
                "layer_bytes",
                "header_bytes",
                "unexplained_bytes",
            ),
            lambda value: f"{value / 1024:,.0f} KiB",
        ),
        "bytes_per_second": lambda value: f"{value / 1e6:,.0f} MB/s",
        "sum_of_widths": lambda value: f"{value:,.0f}",
        "hbm_bytes": lambda value: f"{value / 2**20:,.0f} MiB",
        "step_ms": lambda value: f"{value:,.1f}",
        "lookup_ms": lambda value: f"{value:,.1f}",
        "exchange_ms": lambda value: f"{value:,.1f}",
        "layers_ms": lambda value: f"{value:,.1f}",
        "rank_bytes": lambda value: f"{value / 2**30:,.2f} GiB",
        "rank_sent_bytes": lambda value: f"{value / 2**20:,.2f} MiB",
        "row_wise_tables": lambda value: f"{value:.0f}",
        "first_step_seconds": lambda value: f"{value:,.1f} s",
        "trained_ratio": lambda value: f"{value:.0%}",
        "batches_per_second": lambda value: f"{value:,.0f}",
    }
)
"""How a figure is shown; four digits where nothing is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchCommand:
    """Measure this machine: contenders in turns, each run in a fresh process."""

    benchmark: Benchmark = field(default_factory=StepConfig)
    """What to measure."""

    output: Path | None = None
    """JSON file for every run, the summary and the machine."""

    json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print that JSON instead of the table."""


def main(argv: Sequence[str]) -> int:
    """Run one benchmark, tell of every run on stderr, print the table."""
    command = tyro.cli(
        BenchCommand,
        prog="mixdim bench",
        args=list(argv),
        config=(
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
        ),
    )
    run = import_module(MODULES[type(command.benchmark)]).run
    report: Report = run(command.benchmark, Story(command.output))
    if command.json:
        sys.stdout.write(_as_text(report))
        return 0
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
    console.print(summary_table(report))
    console.print(legend(report), _machine_line(report), sep="\n\n", highlight=False)
    return 0


def summary_table(report: Report) -> Table:
    """One line a contender: the headline, how much faster the first one is, other figures."""
    others = report.figures()[1:]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("contender", report.headline, "min - max", "first / this", "runs", *others):
        words = title.replace("_", " ")
        table.add_column(
            fill(words, HEADER_WIDTH),
            justify="left" if title == "contender" else "right",
            no_wrap=True,
        )
    first: dict[str, Spread] = {}
    for contender in report.contenders:
        spread = report.spread(contender.name, report.headline)
        if spread is None:
            continue
        group = contender.name.rpartition("/")[0]
        ratio = first.setdefault(group, spread).median / spread.median
        rest = (report.spread(contender.name, name) for name in others)
        table.add_row(
            contender.name,
            _shown(report.headline, spread.median),
            f"{_shown(report.headline, spread.min)} - {_shown(report.headline, spread.max)}",
            f"{ratio:.2f}x",
            f"{spread.num_runs} of {spread.num_runs + spread.num_left_out}",
            *(
                _shown(name, found.median) if found else "-"
                for name, found in zip(others, rest, strict=True)
            ),
        )
    return table


def legend(report: Report) -> str:
    """What every contender is; those of several networks once."""
    about = {
        contender.name.rpartition("/")[2]: f"{'bound: ' * contender.is_bound}{contender.about}"
        for contender in report.contenders
    }
    width = max(map(len, about))
    return "\n".join(f"{name:{width}}  {text}" for name, text in about.items())


class Story:
    """Tells of new runs on stderr; keeps the file whole after each, so that none is ever lost."""

    def __init__(self, output: Path | None) -> None:
        self._output = output
        self._num_told = 0
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, report: Report) -> None:
        """Take note of what is new."""
        for run in report.runs[self._num_told :]:
            sys.stderr.write(_line(run))
        self._num_told = len(report.runs)
        if self._output is not None:
            draft = self._output.with_name(f".{self._output.name}.draft")
            draft.write_text(_as_text(report))
            draft.rename(self._output)


def _as_text(report: Report) -> str:
    return json.dumps(report.as_json(), indent=1, default=str) + "\n"


def _line(run: Run) -> str:
    figures = "  ".join(f"{name} {_shown(name, value)}" for name, value in run.figures.items())
    return f"{run.contender}  run {run.repetition}  {figures}  others {run.foreign_ratio:.0%}\n"


def _shown(name: str, value: float) -> str:
    return UNITS.get(name, "{:.4f}".format)(value)


def _machine_line(report: Report) -> str:
    machine = report.machine
    packages = " ".join(f"{name} {found}" for name, found in machine["packages"].items())
    return (
        f"{machine['cores']} cores {machine['cpu']} family {machine['cpu_family']} "
        f"({' '.join(machine['flags'])}), {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"Python {machine['python']}, {packages}"
    )
