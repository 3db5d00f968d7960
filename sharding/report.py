"""What a placement means for every rank: bytes, tables, traffic and time."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.tables import Table
from sharding.cluster import Cluster
from sharding.cost import Workload, sent_bytes, shard_bytes, shard_seconds
from sharding.placement import Placement, TablePlacement


@dataclass(frozen=True, kw_only=True, slots=True)
class RankReport:
    """One rank's share."""

    rank: int
    bytes: int
    """Weights, optimizer state, and dense gradients of data-parallel tables."""
    num_tables: int
    """Tables of which the rank holds at least one row."""
    num_shards: int
    sent_bytes_per_step: int
    """Pooled vectors sent to other ranks in a forward pass, before any projection."""
    seconds_per_step: float
    """Lookups, their optimizer and their traffic, by bandwidth alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableReport:
    """One table's place."""

    name: str
    num_embeddings: int
    embedding_dim: int
    sharding_type: str
    kernel: str
    ranks: tuple[int, ...]
    bytes: int
    """Over all ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanReport:
    """A placement in figures."""

    ranks: tuple[RankReport, ...]
    tables: tuple[TableReport, ...]

    @property
    def bytes(self) -> int:
        """Bytes over all ranks."""
        return sum(rank.bytes for rank in self.ranks)

    @property
    def imbalance_ratio(self) -> float:
        """Bytes of the fullest rank over the mean; 1 is perfect."""
        return _imbalance([rank.bytes for rank in self.ranks])

    @property
    def time_imbalance_ratio(self) -> float:
        """Predicted seconds of the busiest rank over the mean; 1 is perfect."""
        return _imbalance([rank.seconds_per_step for rank in self.ranks])


def report(placement: Placement, cluster: Cluster, workload: Workload) -> PlanReport:
    """Add up what every rank holds, sends and does in a step."""
    return PlanReport(
        ranks=tuple(
            _rank_report(rank, placement, cluster, workload) for rank in range(placement.num_ranks)
        ),
        tables=tuple(_table_report(table, workload) for table in placement.tables),
    )


def _rank_report(
    rank: int, placement: Placement, cluster: Cluster, workload: Workload
) -> RankReport:
    shards = [
        (table, shard)
        for table in placement.tables
        for shard in table.shards
        if shard.rank == rank and shard.num_rows
    ]
    return RankReport(
        rank=rank,
        bytes=sum(
            shard_bytes(*shard.size, table.sharding_type, workload.optimizer)
            for table, shard in shards
        ),
        num_tables=len({table.name for table, _ in shards}),
        num_shards=len(shards),
        sent_bytes_per_step=sum(
            sent_bytes(shard.num_columns, table.sharding_type, cluster, workload.batch_size)
            for table, shard in shards
        ),
        seconds_per_step=sum(
            shard_seconds(_table(table), shard.size, table.sharding_type, cluster, workload)
            for table, shard in shards
        ),
    )


def _table_report(table: TablePlacement, workload: Workload) -> TableReport:
    return TableReport(
        name=table.name,
        num_embeddings=table.num_embeddings,
        embedding_dim=table.embedding_dim,
        sharding_type=table.sharding_type,
        kernel=table.kernel,
        ranks=tuple(shard.rank for shard in table.shards),
        bytes=sum(
            shard_bytes(*shard.size, table.sharding_type, workload.optimizer)
            for shard in table.shards
        ),
    )


def _table(table: TablePlacement) -> Table:
    return Table(
        name=table.name,
        field=table.name,
        num_embeddings=table.num_embeddings,
        embedding_dim=table.embedding_dim,
    )


def _imbalance(shares: Sequence[float]) -> float:
    total = sum(shares)
    return max(shares) * len(shares) / total if total else 1.0
