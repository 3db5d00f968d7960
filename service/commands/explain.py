"""``mixdim explain SIZING [OTHER]``: why tables are as wide as they are; what another plan does."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from models.sizing import ServingDtype
from models.sizing.budget import PlanBytes
from models.tables import FieldStats
from service.commands.size_table import describe_serving
from service.data.dataset import read_dataset_info
from service.explain import Difference, FieldChange, TableLine, compare, explain
from service.on_cluster import workload_of
from service.sharding_file import find_cluster, read_sharding
from service.sizing import SizingFile, budgeted_bytes, read_sizing, sizing_bytes
from sharding.cluster import CLUSTERS
from sharding.constraints import ShardingConfig
from sharding.placement import Placement
from sharding.placing import place

PLAIN_WIDTH = 140
"""Columns of the tables where stdout is a file or a pipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainCommand:
    """Say what every table got and why; with a second plan, what that one does differently."""

    sizing: tyro.conf.Positional[Path]
    """Sizing plan written by ``mixdim size``."""

    other: tyro.conf.Positional[Path | None] = None
    """Another sizing plan, to see what it changes."""

    data: Path | None = None
    """Dataset folder; tells which share of the lookups each table covers."""

    sharding: Path | None = None
    """Sharding plan written by ``mixdim plan``; tells where tables live."""

    cluster: Annotated[str | None, tyro.conf.arg(metavar=f"{{{','.join(CLUSTERS)}}}|FILE")] = None
    """Plan for this cluster instead, by name or by a TOML or JSON file."""

    ranks: int | None = None
    """Ranks of that cluster to use; its own by default."""

    batch_size: int = 4096
    """Examples per rank and step, for that plan."""

    json: bool = False
    """Print JSON instead of tables."""


def main(argv: Sequence[str]) -> int:
    """Explain one plan, and the difference of a second one."""
    command = tyro.cli(ExplainCommand, args=list(argv), prog="mixdim explain")
    _check(command)
    sizing = read_sizing(command.sizing)
    stats = _stats(command, sizing)
    lines = explain(sizing, stats, _placement(command, sizing, stats))
    difference = compare(sizing, read_sizing(command.other)) if command.other else None
    if command.json:
        sys.stdout.write(json.dumps(_as_json(sizing, lines, difference), indent=1) + "\n")
        return 0
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
    is_served = sizing.dtype != "fp32" or sizing.budget_for == "serving"
    console.print(tables_table(lines, served_as=sizing.dtype if is_served else None))
    console.print(_totals(sizing), highlight=False)
    if difference is not None:
        console.print(f"\n{command.sizing} -> {command.other}", highlight=False)
        console.print(difference_table(difference.changed))
        console.print(_difference_totals(difference), highlight=False)
    return 0


def _check(command: ExplainCommand) -> None:
    if command.sharding is not None and command.cluster is not None:
        raise ValueError("--sharding and --cluster both say where tables live; give one of them")


def _stats(command: ExplainCommand, sizing: SizingFile) -> Sequence[FieldStats]:
    if command.data is None:
        return ()
    info = read_dataset_info(command.data)
    sizing.check_against(info)
    return info.field_stats


def _placement(
    command: ExplainCommand, sizing: SizingFile, stats: Sequence[FieldStats]
) -> Placement | None:
    if command.sharding is not None:
        return read_sharding(command.sharding)
    if command.cluster is None:
        return None
    cluster = find_cluster(command.cluster, command.ranks)
    workload = workload_of(sizing, command.batch_size, stats)
    tables = [table.stored for table in sizing.plan.tables()]
    return place(tables, cluster, ShardingConfig(), workload)


def tables_table(lines: Sequence[TableLine], served_as: ServingDtype | None = None) -> Table:
    """One line a table; what is not known of any has no column, nor has serving without a dtype."""
    blocks = any(line.name != line.field for line in lines)
    optional = {
        "coverage": [_percent(line.coverage_ratio) for line in lines],
        "lookups": [_percent(line.lookup_ratio) for line in lines] if blocks else [],
        f"as {served_as}": [f"{line.serving_bytes:,}" for line in lines] if served_as else [],
        "placement": [line.placement or "" for line in lines],
    }
    shown = {title: cells for title, cells in optional.items() if any(cells)}
    columns: dict[str, list[str]] = {
        "table": [line.name for line in lines],
        "ids": [f"{line.num_ids:,}" for line in lines],
        "rows": [f"{line.num_embeddings:,}" for line in lines],
        **{title: shown[title] for title in ("coverage", "lookups") if title in shown},
        "asked": [f"{line.asked_dim:.3g}" for line in lines],
        "used": [f"{line.embedding_dim:,}" for line in lines],
        "weights": [f"{line.weight_bytes:,}" for line in lines],
        "optimizer": [f"{line.optimizer_bytes:,}" for line in lines],
        "projection": [f"{line.projection_bytes:,}" for line in lines],
        **{t: shown[t] for t in (f"as {served_as}", "placement") if t in shown},
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in columns:
        left = title in ("table", "placement")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for cells in zip(*columns.values(), [line.reason for line in lines], strict=True):
        table.add_row(*cells)
    return table


def difference_table(changes: Sequence[FieldChange]) -> Table:
    """One line a field that changes, the largest change of bytes first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("field", "dims", "rows", "bytes", "change"):
        left = title in ("field", "dims", "rows")
        table.add_column(title, justify="left" if left else "right", no_wrap=title != "rows")
    for change in changes:
        table.add_row(
            change.field,
            _arrow(change.old_dims, change.new_dims),
            _arrow(change.old_rows, change.new_rows),
            f"{change.old_bytes:,} -> {change.new_bytes:,}",
            f"{change.change_bytes:+,}",
        )
    return table


def _arrow(old: Sequence[int], new: Sequence[int]) -> str:
    """``a -> b``, or just ``a`` where nothing changes."""
    before, after = (" ".join(f"{value:,}" for value in values) for values in (old, new))
    return before if before == after else f"{before} -> {after}"


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1%}"


_FIGURES: Final[Mapping[str, Callable[[PlanBytes], int]]] = {
    "EP": lambda cost: cost.embedding_params,
    "EP + projections": lambda cost: cost.embedding_params + cost.projection_params,
    "training bytes": lambda cost: cost.training_bytes,
    "serving bytes": lambda cost: cost.serving_bytes,
}


def _totals(sizing: SizingFile) -> str:
    cost = sizing_bytes(sizing)
    lines = [f"{name:<20} {figure(cost):>20,}" for name, figure in _FIGURES.items()]
    lines[-1] += f"  {describe_serving(sizing)}"
    if sizing.budget_bytes:
        used = budgeted_bytes(sizing) / sizing.budget_bytes
        by = " by serving bytes" if sizing.budget_for == "serving" else ""
        lines.append(f"{'budget':<20} {sizing.budget_bytes:>20,}  {used:.2%} used{by}")
    return "\n".join(lines)


def _difference_totals(difference: Difference) -> str:
    old, new = difference.old_totals, difference.new_totals
    lines = [
        f"{name:<20} {figure(old):>20,} -> {figure(new):>20,}  {figure(new) - figure(old):+,}"
        for name, figure in _FIGURES.items()
    ]
    if difference.unchanged:
        lines.append(
            f"unchanged: {len(difference.unchanged):,} field(s) of "
            f"{difference.unchanged_bytes:,} bytes"
        )
    for names, which in ((difference.only_old, "first"), (difference.only_new, "second")):
        if names:
            lines.append(f"only in the {which} plan: {', '.join(names)}")
    return "\n".join(lines)


def _as_json(
    sizing: SizingFile, lines: Sequence[TableLine], difference: Difference | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tables": [{**asdict(line), "total_bytes": line.total_bytes} for line in lines],
        "totals": _figures(sizing_bytes(sizing)),
        "budget_for": sizing.budget_for,
        "dtype": sizing.dtype,
        "row_alignment": sizing.row_alignment,
    }
    if difference is not None:
        found["difference"] = {
            **asdict(difference),
            "changed": [
                {**asdict(change), "change_bytes": change.change_bytes}
                for change in difference.changed
            ],
            "old_totals": _figures(difference.old_totals),
            "new_totals": _figures(difference.new_totals),
        }
    return found


def _figures(cost: PlanBytes) -> dict[str, int]:
    return {
        "embedding_params": cost.embedding_params,
        "projection_params": cost.projection_params,
        "training_bytes": cost.training_bytes,
        "serving_bytes": cost.serving_bytes,
    }
