"""``mixdim plan --sizing F --cluster C --batch-size N``: where every table lives."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from models.tables import FieldStats, PlanError, SparseOptimizer
from models.tables import Table as SizedTable
from service.commands.cluster_summary import summary_lines, summary_table
from service.data.dataset import read_dataset_info
from service.on_cluster import workload_of
from service.sharding_file import find_cluster, write_sharding
from service.sizing import read_sizing
from sharding.cluster import CLUSTERS
from sharding.constraints import Comms, Kernel, Planner, ShardingConfig, ShardingType
from sharding.cost import Workload
from sharding.placing import place
from sharding.report import RankReport, TableReport, report
from sharding.summary import Refusal, compare, sum_up

PLAIN_WIDTH = 110
"""Columns of the tables where stdout is a file or a pipe."""

MOST_RANKS_SHOWN = 16
"""Ranks that have a line of their own."""

MOST_RANKS_OF_A_TABLE = 4
"""Ranks that are named one by one in a table's line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanCommand:
    """Decide which rank holds which part of which table, or say what it would take."""

    sizing: Path = Path("sizing.json")
    """Sizing plan written by ``mixdim size``."""

    against: tuple[Path, ...] = ()
    """More sizing plans: shows one line each, the first one's included, and writes nothing."""

    cluster: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(CLUSTERS)}}}|FILE")] = "local"
    """A cluster by name, or a TOML or JSON file that describes one."""

    batch_size: int = 4096
    """Examples per rank and step."""

    ranks: int | None = None
    """Ranks to use; the cluster's by default."""

    types: tuple[ShardingType, ...] = ("table_wise", "row_wise")
    """Allowed ways of sharding, preferred first."""

    tables: dict[str, ShardingType] = field(default_factory=dict)
    """Way of single tables, as in ``--tables C3 row_wise C4 column_wise``."""

    planner: Planner = "own"
    """Who places tables: we, or TorchRec's planner with one of its proposers (slow)."""

    max_copied_rows: int = 0
    """Tables of at most so many rows are copied to all ranks (data_parallel): less traffic where
    that is less than the batch size of a rank."""

    min_partition: int = 4
    """Narrowest column shard; a multiple of 4."""

    kernel: Kernel = "fused"
    """Memory that tables live in: the device's, or the host's, with or without a cache of rows on
    the device (GPU only)."""

    kernels: dict[str, Kernel] = field(default_factory=dict)
    """Memory of single tables, as in ``--kernels C3 fused_uvm_caching C4 fused``."""

    cache_load_factor: float = 0.2
    """Share of the rows that fused_uvm_caching keeps on the device."""

    comms: Comms = "fp32"
    """Numbers that pooled vectors travel between ranks in; fp16 and bf16 halve the traffic."""

    comms_backward: Comms | None = None
    """The same for their gradients on the way back; fp32 for fp32, bf16 for others by default."""

    optimizer: SparseOptimizer | None = None
    """Optimizer of the tables; the sizing's by default."""

    data: Path | None = None
    """Dataset folder; tells how many ids an example has in list-valued fields."""

    output: Path = Path("sharding.json")
    """File to write."""

    json: bool = False
    """Print the file instead of the tables."""

    def config(self) -> ShardingConfig:
        """How tables may be cut."""
        return ShardingConfig(
            types=self.types,
            tables=self.tables,
            planner=self.planner,
            max_copied_rows=self.max_copied_rows,
            min_partition=self.min_partition,
            kernel=self.kernel,
            kernels=self.kernels,
            cache_load_factor=self.cache_load_factor,
            comms=self.comms,
            comms_backward=self.comms_backward,
        )


def main(argv: Sequence[str]) -> int:
    """Plan, write the file, and show bytes, traffic and time of every rank; or compare plans."""
    command = tyro.cli(PlanCommand, args=list(argv), prog="mixdim plan")
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
    if command.against:
        return _compare(command, console)
    cluster = find_cluster(command.cluster, command.ranks)
    tables, workload = _read(command, command.sizing)
    placement = place([table.stored for table in tables], cluster, command.config(), workload)
    figures = report(placement, cluster, workload)
    write_sharding(placement, command.output, figures)
    if command.json:
        sys.stdout.write(command.output.read_text())
        return 0
    console.print(tables_table(figures.tables))
    console.print(ranks_table(figures.ranks[:MOST_RANKS_SHOWN]))
    if (more := len(figures.ranks) - MOST_RANKS_SHOWN) > 0:
        console.print(f"and {more:,} more ranks, all of them in {command.output}\n")
    summary = sum_up(figures, cluster, command.config())
    console.print(summary_lines(summary), highlight=False)
    sys.stderr.write(f"written to {command.output}\n")
    return 0


def _read(command: PlanCommand, path: Path) -> tuple[list[SizedTable], Workload]:
    """Tables of a sizing plan, and how they are used."""
    sizing = read_sizing(path)
    stats: Sequence[FieldStats] = ()
    if command.data is not None:
        info = read_dataset_info(command.data)
        sizing.check_against(info)
        stats = info.field_stats
    workload = workload_of(sizing, command.batch_size, stats, command.optimizer)
    config = command.config()
    workload = replace(workload, comms=config.comms, gradient_comms=config.gradient_comms)
    return list(sizing.plan.tables()), workload


def _compare(command: PlanCommand, console: Console) -> int:
    """One line a sizing plan, and for those that do not fit what would do."""
    cluster = find_cluster(command.cluster, command.ranks)
    paths = (command.sizing, *command.against)
    candidates = {str(path): _read(command, path) for path in paths}
    found = compare(candidates, cluster, command.config())
    if command.json:
        described = {name: asdict(summary) for name, summary in found.items()}
        sys.stdout.write(json.dumps(described, indent=1) + "\n")
    else:
        console.print(summary_table(found))
        console.print(f"speeds: {cluster.source}", highlight=False)
    refused = {name: each for name, each in found.items() if isinstance(each, Refusal)}
    for name, refusal in refused.items():
        sys.stderr.write(f"{name}: {refusal.message}\n")
    if len(refused) == len(found):
        raise PlanError(
            f"none of {len(found):,} sizing plans fits on {command.cluster}; see above what each "
            f"one needs",
            needed_bytes=min(refusal.needed_bytes for refusal in refused.values()),
        )
    return 0


def tables_table(tables: Sequence[TableReport]) -> Table:
    """One line a table: shape, bytes, and where it lives."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("table", "rows", "dim", "bytes", "sharding", "kernel", "ranks"):
        left = title in ("table", "sharding", "kernel", "ranks")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for line in tables:
        ranks = [str(rank) for rank in line.ranks[:MOST_RANKS_OF_A_TABLE]]
        more = len(line.ranks) - len(ranks)
        table.add_row(
            line.name,
            f"{line.num_embeddings:,}",
            str(line.embedding_dim),
            f"{line.bytes:,}",
            line.sharding_type,
            line.kernel,
            " ".join(ranks) + (f" and {more} more" if more else ""),
        )
    return table


def ranks_table(ranks: Sequence[RankReport]) -> Table:
    """One line a rank: what it holds, sends and is predicted to take."""
    columns: dict[str, Callable[[RankReport], str]] = {
        "rank": lambda line: str(line.rank),
        "tables": lambda line: str(line.num_tables),
        "shards": lambda line: str(line.num_shards),
        "bytes": lambda line: f"{line.bytes:,}",
        "cache bytes": lambda line: f"{line.cache_bytes:,}",
        "sent bytes/step": lambda line: f"{line.sent_bytes_per_step:,}",
        "predicted ms/step": lambda line: f"{line.seconds_per_step * 1e3:.3f}",
    }
    if not any(line.cache_bytes for line in ranks):
        del columns["cache bytes"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for line in ranks:
        table.add_row(*(write(line) for write in columns.values()))
    return table
