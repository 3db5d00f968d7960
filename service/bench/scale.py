"""``mixdim bench scale``: what a step on Criteo-Terabyte-sized tables would cost, by ranks.

Nothing is trained: tables are placed as ``mixdim plan`` places them, and the cost model prices the
placement with a cluster's speeds, which ``mixdim bench lookup --write-cluster`` measures. Lookup,
exchange, layers and their all-reduce are added up, none overlapped: a pessimist's step.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from models.sizing import PopularityRule, Uniform, plan_bytes
from models.tables import FLOAT_BYTES, FieldStats, PlanError, SizingPlan
from service.bench.harness import Figures, OnRun, Report, Run, Subject, silent
from service.bench.options import ScaleConfig
from service.bench.scale_plot import draw
from service.sharding_file import find_cluster
from sharding.cluster import Cluster
from sharding.constraints import ShardingConfig
from sharding.cost import Workload
from sharding.placing import place
from sharding.report import report

logger = logging.getLogger(__name__)

HEADLINE: Final = "examples_per_second"

CARDINALITIES: Final = (
    *(39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10),
    *(2208, 11938, 155, 4, 976, 14, 39979771, 25641295, 39664984, 585935, 12972, 108, 36),
)
"""Ids of the 26 fields of Criteo's terabyte log, hashed to 40 million: the tables of MLPerf's DLRM
(facebookresearch/dlrm, ``--max-ind-range=40000000``)."""
TRAIN_ROWS: Final = 4_195_197_692
"""Examples of its first 23 days."""
LAYER_WEIGHTS: Final = 2_368_897
"""Parameters of MLPerf's DLRM besides the tables: bottom 13-512-256-128, top
479-1024-1024-512-256-1."""
PASSES: Final = 3
"""Matrix products of a layer in a step: forward, and the gradients of its inputs and weights."""
DENSE_COPIES: Final = 4
"""A dense parameter, its gradient and the two moments of Adam."""


def run(config: ScaleConfig, on_run: OnRun = silent) -> Report:
    """Price every plan on every number of ranks.

    Raises:
        ValueError: If the cluster is unknown, or the ranks do not fill its hosts.
    """
    runs: list[Run] = []
    contenders: list[Subject] = []
    for num_ranks in config.ranks:
        for name, plan in _plans(config).items():
            cluster = _cluster(config, num_ranks)
            contender = Subject(
                name=f"{num_ranks:,} rank{'s' * (num_ranks > 1)}/{name}",
                about=f"{plan_bytes(plan).training_bytes / 2**30:,.1f} GiB in training",
            )
            contenders.append(contender)
            try:
                figures = price(plan, cluster, config)
            except PlanError as error:
                logger.info("%s: left out, for %s", contender.name, error)
                continue
            runs.append(
                Run(contender=contender.name, repetition=0, figures=figures, foreign_ratio=0.0)
            )
    cluster = _cluster(config, config.ranks[-1])
    if config.plot is not None:
        _draw(config, runs, cluster)
    report = Report(
        benchmark="scale",
        headline=HEADLINE,
        options=asdict(config)
        | {"cluster": asdict(cluster), "plot": config.plot and config.plot.name},
        contenders=contenders,
        runs=runs,
    )
    on_run(report)
    return report


def _plans(config: ScaleConfig) -> dict[str, SizingPlan]:
    fields = [
        FieldStats(name=f"C{number}", num_embeddings=rows, num_lookups=TRAIN_ROWS)
        for number, rows in enumerate(CARDINALITIES, start=1)
    ]
    mixed = PopularityRule(max_dim=config.dim, alpha=config.alpha)
    return {
        f"uniform-{config.dim}": Uniform(dim=config.dim)(fields),
        f"popularity-{config.alpha:g}": mixed(fields),
    }


def _cluster(config: ScaleConfig, num_ranks: int) -> Cluster:
    return replace(find_cluster(config.cluster), num_ranks=num_ranks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """What the layers of a step cost a rank."""

    weights: int
    seconds: float

    @classmethod
    def of(cls, plan: SizingPlan, cluster: Cluster, config: ScaleConfig, batch: int) -> "Layers":
        """Products at the given speed, then a ring that passes every gradient on twice."""
        weights = LAYER_WEIGHTS + plan_bytes(plan).projection_params
        products = PASSES * 2 * weights * batch / config.flops_per_second
        away = 2 * (1 - 1 / cluster.num_ranks) * weights * FLOAT_BYTES
        is_near = cluster.num_ranks <= cluster.ranks_per_host
        link = cluster.intra_host_bytes_per_second
        return cls(
            weights=weights,
            seconds=products + away / (link if is_near else cluster.inter_host_bytes_per_second),
        )


def price(plan: SizingPlan, cluster: Cluster, config: ScaleConfig) -> Figures:
    """Figures of a step of one plan.

    Raises:
        PlanError: If the tables do not fit on the cluster.
    """
    batch_size = config.rank_batch_size(cluster.num_ranks)
    layers = Layers.of(plan, cluster, config, batch_size)
    workload = Workload(
        batch_size=batch_size, dense_bytes=layers.weights * FLOAT_BYTES * DENSE_COPIES
    )
    tables = [table.stored for table in plan.tables()]
    placement = place(tables, cluster, ShardingConfig(types=config.types), workload)
    found = report(placement, cluster, workload)
    slowest = max(found.ranks, key=lambda rank: rank.seconds_per_step)
    seconds = found.step_seconds + layers.seconds
    return {
        HEADLINE: batch_size * cluster.num_ranks / seconds,
        "step_ms": seconds * 1e3,
        "lookup_ms": slowest.lookup_seconds_per_step * 1e3,
        "exchange_ms": slowest.exchange_seconds_per_step * 1e3,
        "layers_ms": layers.seconds * 1e3,
        "rank_bytes": max(rank.bytes for rank in found.ranks),
        "rank_sent_bytes": max(rank.sent_bytes_per_step for rank in found.ranks),
        "row_wise_tables": sum(table.sharding_type == "row_wise" for table in found.tables),
    }


def _draw(config: ScaleConfig, runs: Sequence[Run], cluster: Cluster) -> None:
    lines: dict[str, list[tuple[int, float]]] = {}
    for one in runs:
        ranks, _, plan = one.contender.partition("/")
        point = int(ranks.split()[0].replace(",", "")), one.figures[HEADLINE]
        lines.setdefault(plan, []).append(point)
    shared = "in all" if config.strong else "a rank"
    title = f"Criteo-Terabyte-sized DLRM, {config.batch_size:,} examples {shared}"
    assert config.plot is not None
    draw(lines, title, f"simulated; speeds: {cluster.source}", config.plot)
