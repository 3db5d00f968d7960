"""What a placement means for every rank: bytes, tables, traffic and time."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sharding.cluster import Cluster
from sharding.cost import Workload, cache_bytes, sent_bytes, shard_bytes, shard_seconds
from sharding.placement import Placement, TablePlacement


@dataclass(frozen=True, kw_only=True, slots=True)
class RankReport:
    """One rank's share."""

    rank: int
    bytes: int
    """Weights, optimizer state, and dense gradients of data-parallel tables."""
    cache_bytes: int
    """Device memory that caches rows of host tables, besides; 0 for other kernels."""
    num_tables: int
    """Tables of which the rank holds at least one row."""
    num_shards: int
    sent_bytes_per_step: int
    """Pooled vectors sent to other ranks in a forward pass, before any projection."""
    lookup_seconds_per_step: float
    """Lookups and their optimizer."""
    exchange_seconds_per_step: float
    """Traffic with other ranks."""

    @property
    def seconds_per_step(self) -> float:
        """Lookups, their optimizer and their traffic, one after the other; no dense layers."""
        return self.lookup_seconds_per_step + self.exchange_seconds_per_step


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
    def step_seconds(self) -> float:
        """Predicted seconds of the busiest rank, for which all others wait."""
        return max(rank.seconds_per_step for rank in self.ranks)

    @property
    def imbalance_ratio(self) -> float:
        """Bytes of the fullest rank over the mean; 1 is perfect."""
        return _imbalance([rank.bytes for rank in self.ranks])

    @property
    def time_imbalance_ratio(self) -> float:
        """Predicted seconds of the busiest rank over the mean; 1 is perfect."""
        return _imbalance([rank.seconds_per_step for rank in self.ranks])


def report(placement: Placement, cluster: Cluster, workload: Workload) -> PlanReport:
    """Add up what every rank holds, sends and does in a step, in one pass over the shards."""
    ranks = [_Sums() for _ in range(placement.num_ranks)]
    tables = tuple(_add_up(table, ranks, cluster, workload) for table in placement.tables)
    return PlanReport(
        ranks=tuple(
            RankReport(
                rank=rank,
                bytes=sums.bytes,
                cache_bytes=sums.cache_bytes,
                num_tables=sums.num_tables,
                num_shards=sums.num_shards,
                sent_bytes_per_step=sums.sent_bytes,
                lookup_seconds_per_step=sums.lookup_seconds
                + (cluster.call_seconds if sums.num_shards else 0.0),
                exchange_seconds_per_step=sums.exchange_seconds,
            )
            for rank, sums in enumerate(ranks)
        ),
        tables=tables,
    )


@dataclass(slots=True)
class _Sums:
    """One rank's share so far."""

    bytes: int = 0
    num_tables: int = 0
    num_shards: int = 0
    sent_bytes: int = 0
    lookup_seconds: float = 0.0
    exchange_seconds: float = 0.0
    cached: dict[float, list[tuple[int, int]]] = field(default_factory=dict)
    """Shapes of cached shards by their load factor."""

    @property
    def cache_bytes(self) -> int:
        return sum(cache_bytes(shapes, factor) for factor, shapes in self.cached.items())


def _add_up(
    table: TablePlacement, ranks: Sequence[_Sums], cluster: Cluster, workload: Workload
) -> TableReport:
    """Add a table's shards to their ranks; shards of one size cost alike, and sizes are few."""
    kind = table.sharding_type
    prices: dict[tuple[int, int], tuple[int, int, float, float]] = {}
    seen = set()
    total_bytes = 0
    for shard in table.shards:
        if not shard.num_rows:
            continue
        if shard.size not in prices:
            prices[shard.size] = (
                shard_bytes(*shard.size, kind, workload.optimizer),
                sent_bytes(shard.num_columns, kind, cluster, workload),
                *shard_seconds(table, shard.size, kind, cluster, workload),
            )
        held, sent, lookup, exchange = prices[shard.size]
        sums = ranks[shard.rank]
        sums.bytes += held
        sums.sent_bytes += sent
        sums.lookup_seconds += lookup
        sums.exchange_seconds += exchange
        sums.num_shards += 1
        if table.cache_load_factor is not None:
            sums.cached.setdefault(table.cache_load_factor, []).append(shard.size)
        sums.num_tables += shard.rank not in seen
        seen.add(shard.rank)
        total_bytes += held
    return TableReport(
        name=table.name,
        num_embeddings=table.num_embeddings,
        embedding_dim=table.embedding_dim,
        sharding_type=kind,
        kernel=table.kernel,
        ranks=tuple(shard.rank for shard in table.shards),
        bytes=total_bytes,
    )


def _imbalance(shares: Sequence[float]) -> float:
    total = sum(shares)
    return max(shares) * len(shares) / total if total else 1.0
