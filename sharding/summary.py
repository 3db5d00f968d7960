"""Sizing plans on a cluster, in a few figures each, before a GPU is touched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from models.tables import PlanError, Table
from sharding.cluster import Cluster
from sharding.constraints import ShardingConfig
from sharding.cost import Workload
from sharding.placing import place
from sharding.report import PlanReport, report


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSummary:
    """One sizing plan, placed on a cluster."""

    num_ranks: int
    total_bytes: int
    """Tables and their optimizer state on all ranks."""
    max_rank_bytes: int
    """Tables and their optimizer state on the fullest rank."""
    mean_rank_bytes: float
    room_bytes: int
    """Bytes of a rank that tables may fill."""
    max_sent_bytes_per_step: int
    """Pooled vectors that the busiest sender sends in a forward pass; their gradients come back."""
    mean_sent_bytes_per_step: float
    imbalance_ratio: float
    """Bytes of the fullest rank over the mean."""
    time_imbalance_ratio: float
    """Predicted seconds of the busiest rank over the mean."""
    lookup_seconds: float
    """Lookups, backward and update of the busiest rank."""
    exchange_seconds: float
    """Its traffic with other ranks."""
    speeds: str
    """Where the speeds behind the prediction are from."""

    @property
    def step_seconds(self) -> float:
        """Predicted seconds of tables in a step; the dense layers come on top."""
        return self.lookup_seconds + self.exchange_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a plan cannot be placed, and what would do."""

    message: str
    needed_bytes: int
    """Memory of a rank with which the plan would fit."""


def summarise(
    tables: Sequence[Table],
    cluster: Cluster,
    workload: Workload,
    config: ShardingConfig | None = None,
) -> PlanSummary:
    """Place the tables of a sizing plan, and say what that costs.

    Args:
        tables: Tables as the plan names them; packed ones are placed as they are stored.
        cluster: Ranks, memory and speeds.
        workload: Batch size, optimizer, pooling factors.
        config: Allowed ways of cutting; the default's where None.

    Raises:
        PlanError: If they do not fit; says how much memory, how many ranks or which budget would.
    """
    config = config or ShardingConfig()
    stored = [table.stored for table in tables]
    return sum_up(
        report(place(stored, cluster, config, workload), cluster, workload), cluster, config
    )


def compare(
    candidates: Mapping[str, tuple[Sequence[Table], Workload]],
    cluster: Cluster,
    config: ShardingConfig | None = None,
) -> dict[str, PlanSummary | Refusal]:
    """Several sizing plans on one cluster, each with its figures or why it cannot be."""
    found: dict[str, PlanSummary | Refusal] = {}
    for name, (tables, workload) in candidates.items():
        try:
            found[name] = summarise(tables, cluster, workload, config)
        except PlanError as error:
            found[name] = Refusal(message=str(error), needed_bytes=error.needed_bytes)
    return found


def sum_up(figures: PlanReport, cluster: Cluster, config: ShardingConfig) -> PlanSummary:
    """The figures of a placement that was made for this cluster."""
    ranks = figures.ranks
    busiest = max(ranks, key=lambda rank: rank.seconds_per_step)
    return PlanSummary(
        num_ranks=len(ranks),
        total_bytes=figures.bytes,
        max_rank_bytes=max(rank.bytes for rank in ranks),
        mean_rank_bytes=mean(rank.bytes for rank in ranks),
        room_bytes=cluster.table_bytes(config.kernel),
        max_sent_bytes_per_step=max(rank.sent_bytes_per_step for rank in ranks),
        mean_sent_bytes_per_step=mean(rank.sent_bytes_per_step for rank in ranks),
        imbalance_ratio=figures.imbalance_ratio,
        time_imbalance_ratio=figures.time_imbalance_ratio,
        lookup_seconds=busiest.lookup_seconds_per_step,
        exchange_seconds=busiest.exchange_seconds_per_step,
        speeds=cluster.source,
    )
