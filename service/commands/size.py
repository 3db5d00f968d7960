"""``mixdim size DATA --scheme popularity --budget 256MiB``: how wide every table is, and why."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from models.sizing import SIZING, Sizing
from models.tables import Block, SparseOptimizer
from service.commands.cluster_summary import summary_lines
from service.data.dataset import read_dataset_info
from service.on_cluster import summarise_on
from service.sizing import DEFAULT_BASE_DIM, SizingFile, sizing_bytes, write_sizing
from service.sizing_request import SizingRequest, size_dataset
from sharding.cluster import CLUSTERS
from sharding.summary import PlanSummary

PLAIN_WIDTH = 110
"""Columns of the table where stdout is a file or a pipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeCommand:
    """Decide how wide every embedding table is, under a budget in bytes."""

    data: tyro.conf.Positional[Path]
    """Dataset folder written by ``mixdim prepare``."""

    scheme: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(SIZING)}}}")] = "uniform"
    """Which rule says how wide: all alike, by number of ids, by popularity, or by
    what a short training has learned."""

    budget: str | None = None
    """Bytes of training that are never exceeded: 512MiB, 1000000, or 4x smaller than uniform."""

    output: Path = Path("sizing.json")
    """File to write."""

    optimizer: SparseOptimizer = "rowwise_adagrad"
    """Optimizer of the tables; its state counts."""

    base_dim: int = DEFAULT_BASE_DIM
    """Width of the uniform model that plans are compared with."""

    out_dim: int | None = None
    """Width that the model sees after projection; the widest table's by default."""

    fields: tuple[str, ...] = ()
    """Fields to size; all by default."""

    cluster: Annotated[str | None, tyro.conf.arg(metavar=f"{{{','.join(CLUSTERS)}}}|FILE")] = None
    """Plan the tables for this cluster, by name or by a TOML or JSON file; exit 3 if they do not
    fit."""

    batch_size: int = 4096
    """Examples per rank and step, for that plan."""

    ranks: int | None = None
    """Ranks of that cluster to use; its own by default."""

    blocks: int = 1
    """Cut fields into this many runs of rows that are looked up equally often in total."""

    block_fields: tuple[str, ...] = ()
    """Fields to cut; all by default."""

    dim: int | None = None
    """uniform: width of every table (16)."""

    max_dim: int | None = None
    """popularity: width of the most popular field, and cap (64). fastai: cap (600)."""

    alpha: float | None = None
    """popularity: temperature from 0, uniform, to 1 (0.3)."""

    n_floor: int | None = None
    """popularity: tables with fewer rows count as this many (1)."""

    min_dim: int | None = None
    """popularity: narrowest width (4)."""

    overrides: dict[str, int] | None = None
    """fastai: asked width of single fields, as in ``--overrides user 50 item 80``."""

    warm_up: str | None = None
    """spectral: run folder of a short uniform training of this dataset, which is measured."""

    energy: float | None = None
    """spectral: share of what tables save of the loss that is kept without a budget (0.99)."""

    json: bool = False
    """Print the sizing file instead of the table."""

    def request(self) -> SizingRequest:
        """The same without the command line's own choices.

        Raises:
            ValueError: If a flag belongs to another scheme.
        """
        shared = {field.name for field in dataclasses.fields(SizingRequest)} - {"scheme"}
        return SizingRequest(
            scheme=self._scheme(), **{name: getattr(self, name) for name in shared}
        )

    def _scheme(self) -> Sizing:
        if self.scheme not in SIZING:
            raise ValueError(
                f"--scheme {self.scheme!r} is not a scheme; schemes: {', '.join(SIZING)}"
            )
        kind = SIZING[self.scheme]
        own = [field.name for field in dataclasses.fields(kind) if field.name != "kind"]
        given = {
            name: getattr(self, name) for name in _SCHEME_FLAGS if getattr(self, name) is not None
        }
        if foreign := [name for name in given if name not in own]:
            flags = ", ".join(
                f"--{name.replace('_', '-')}" for name in own if name in _SCHEME_FLAGS
            )
            raise ValueError(
                f"--{foreign[0].replace('_', '-')} means nothing to the scheme {self.scheme!r}; "
                f"its flags: {flags}"
            )
        return kind(**given)


_SCHEME_FLAGS = ("dim", "max_dim", "alpha", "n_floor", "min_dim", "overrides", "warm_up", "energy")


def main(argv: Sequence[str]) -> int:
    """Size a dataset, write the file and explain every width."""
    command = tyro.cli(SizeCommand, args=list(argv), prog="mixdim size")
    sizing = size_dataset(command.data, command.request())
    placed = _on_cluster(command, sizing)
    write_sizing(sizing, command.output)
    if command.json:
        sys.stdout.write(command.output.read_text())
        return 0
    coverage = {
        stats.name: stats.coverage_ratio for stats in read_dataset_info(command.data).field_stats
    }
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
    console.print(explain_table(sizing, coverage))
    console.print(_summary(sizing), highlight=False)
    if placed is not None:
        console.print(f"\non {command.cluster}\n{summary_lines(placed)}", highlight=False)
    sys.stderr.write(f"written to {command.output}\n")
    return 0


def _on_cluster(command: SizeCommand, sizing: SizingFile) -> PlanSummary | None:
    if command.cluster is None:
        if command.ranks is not None:
            raise ValueError(f"--ranks {command.ranks} of no cluster; give --cluster as well")
        return None
    return summarise_on(
        sizing,
        command.cluster,
        batch_size=command.batch_size,
        num_ranks=command.ranks,
        stats=read_dataset_info(command.data).field_stats,
    )


def explain_table(sizing: SizingFile, coverage: Mapping[str, float]) -> Table:
    """One line a field: rows, coverage, asked and used width, bytes, and why."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("field", "ids", "coverage", "asked dim", "used dim", "bytes"):
        table.add_column(title, justify="left" if title == "field" else "right", no_wrap=True)
    table.add_column("why", overflow="fold")
    cost = sizing_bytes(sizing).tables
    for name, blocks in sizing.fields.items():
        whole = sum(cost[part.name].total for part in sizing.plan.tables() if part.field == name)
        table.add_row(
            name,
            f"{sum(block.num_embeddings for block in blocks):,}",
            f"{coverage[name]:.1%}",
            _widths(blocks, "asked_dim"),
            _widths(blocks, "embedding_dim"),
            f"{whole:,}",
            sizing.reasons.get(name, ""),
        )
    return table


def _widths(blocks: Sequence[Block], which: str) -> str:
    """One width, or the widths of all runs from the most frequent to the least."""
    return " ".join(f"{getattr(block, which):.3g}" for block in blocks)


def _summary(sizing: SizingFile) -> str:
    """The four figures, and how much of the budget they take."""
    cost = sizing_bytes(sizing)
    share = cost.training_bytes / sizing.totals["uniform_training_bytes"]
    lines = [
        f"out_dim              {sizing.out_dim:>16,}",
        f"EP                   {cost.embedding_params:>16,}  parameters of the tables",
        f"EP + projections     {cost.embedding_params + cost.projection_params:>16,}",
        f"training bytes       {cost.training_bytes:>16,}  with the state of {sizing.optimizer}; "
        f"{share:.1%} of uniform {sizing.base_dim}",
        f"serving bytes        {cost.serving_bytes:>16,}  fp32",
    ]
    if sizing.budget_bytes is not None:
        used = cost.training_bytes / sizing.budget_bytes
        lines.append(f"budget               {sizing.budget_bytes:>16,}  {used:.2%} used")
    return "\n".join(lines)
