"""Choose where tables live: as little cutting as memory allows, then the shortest step.

Every table is cut the first way its configuration allows, and placed on the ranks that are least
busy by then, the costliest tables first. Where that does not fit, the largest tables take their
next way, until it does. TorchRec's planner searches by itself, but needs minutes for a thousand
tables on 64 ranks, and mixes the ways of cutting freely, also where nothing calls for it.

Ties are broken by names and ranks only: every rank that computes a plan computes the same one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from models.tables import Table
from sharding.cluster import Cluster
from sharding.constraints import ShardingConfig, ShardingType
from sharding.cost import Workload, shard_bytes, shard_seconds
from sharding.placement import Placement, Shard, TablePlacement, can_cut, cut, homes

_NANOSECOND = 1e-9


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to cut one table, with its price."""

    table: Table
    sharding_type: ShardingType
    shards: tuple[Shard, ...]
    bytes: tuple[int, ...]
    nanoseconds: tuple[int, ...]


def pack(
    tables: Sequence[Table], cluster: Cluster, config: ShardingConfig, workload: Workload
) -> Placement | None:
    """Give every shard of every table a rank; None where memory does not suffice."""
    free_bytes = cluster.table_bytes(config.kernel) - workload.dense_bytes
    options = {
        table.name: [
            _option(table, sharding_type, cluster, config, workload)
            for sharding_type in _types(table, cluster, config)
        ]
        for table in tables
    }
    chosen: dict[str, int] = {}
    for name, ways in options.items():
        fitting = (index for index, way in enumerate(ways) if max(way.bytes) <= free_bytes)
        if (first := next(fitting, None)) is None:
            return None
        chosen[name] = first
    num_to_cut = 1
    while True:
        picked = [options[table.name][chosen[table.name]] for table in tables]
        if ranks := _assign(picked, cluster, free_bytes):
            return _placement(picked, ranks, cluster, config)
        divisible = [o for o in picked if chosen[o.table.name] + 1 < len(options[o.table.name])]
        if not divisible:
            return None
        divisible.sort(key=lambda option: (-max(option.bytes), option.table.name))
        for option in divisible[:num_to_cut]:
            chosen[option.table.name] += 1
        num_to_cut *= 2  # a thousand tables must not mean a thousand attempts


def _types(table: Table, cluster: Cluster, config: ShardingConfig) -> Sequence[ShardingType]:
    """Ways to cut a table; whole where it has too few rows for those that are allowed."""
    allowed = config.types_of(table.name)
    return [name for name in allowed if can_cut(table, name, cluster)] or ["table_wise"]


def _option(
    table: Table,
    sharding_type: ShardingType,
    cluster: Cluster,
    config: ShardingConfig,
    workload: Workload,
) -> _Option:
    shards = tuple(cut(table, sharding_type, cluster, config.min_partition))
    seconds = {
        size: shard_seconds(table, size, sharding_type, cluster, workload)
        for size in {shard.size for shard in shards}
    }
    return _Option(
        table=table,
        sharding_type=sharding_type,
        shards=shards,
        bytes=tuple(shard_bytes(*s.size, sharding_type, workload.optimizer) for s in shards),
        nanoseconds=tuple(round(seconds[s.size] / _NANOSECOND) for s in shards),
    )


def _assign(
    options: Sequence[_Option], cluster: Cluster, free_bytes: int
) -> Mapping[str, list[int]] | None:
    """Ranks of every table's shards, or None if some shard finds no room."""
    total_bytes = sum(sum(option.bytes) for option in options) or 1
    if total_bytes > free_bytes * cluster.num_ranks:
        return None
    total_time = sum(sum(option.nanoseconds) for option in options) or 1
    order = sorted(
        options,
        key=lambda option: (
            len(homes(option.sharding_type, cluster)) > 1,  # those without a choice go first
            -max(max(option.bytes) / total_bytes, max(option.nanoseconds) / total_time),
            option.table.name,
        ),
    )
    free, busy = [free_bytes] * cluster.num_ranks, [0] * cluster.num_ranks
    ranks: dict[str, list[int]] = {}
    for option in order:
        candidates = homes(option.sharding_type, cluster)
        step = len(candidates[0])
        ranks[option.table.name] = []
        for first in range(0, len(option.shards), step):
            group = slice(first, first + step)
            home = _best_home(candidates, option.bytes[group], free, busy)
            if home is None:
                return None
            for rank, need, time in zip(
                home, option.bytes[group], option.nanoseconds[group], strict=True
            ):
                free[rank] -= need
                busy[rank] += time
            ranks[option.table.name].extend(home)
    return ranks


def _best_home(
    candidates: Sequence[Sequence[int]], needs: Sequence[int], free: list[int], busy: list[int]
) -> Sequence[int] | None:
    """The candidate with room whose busiest rank is least busy; the emptiest one among equals."""
    best: tuple[int, int, Sequence[int]] | None = None
    for ranks in candidates:
        if any(free[rank] < need for rank, need in zip(ranks, needs, strict=True)):
            continue
        key = max(busy[rank] for rank in ranks), -min(free[rank] for rank in ranks)
        if best is None or key < best[:2]:
            best = (*key, ranks)
    return best[2] if best else None


def _placement(
    options: Sequence[_Option],
    ranks: Mapping[str, list[int]],
    cluster: Cluster,
    config: ShardingConfig,
) -> Placement:
    return Placement(
        num_ranks=cluster.num_ranks,
        ranks_per_host=cluster.local_size,
        device=cluster.device,
        tables=tuple(
            TablePlacement(
                name=option.table.name,
                num_embeddings=option.table.num_embeddings,
                embedding_dim=option.table.embedding_dim,
                sharding_type=option.sharding_type,
                kernel="dense" if option.sharding_type == "data_parallel" else config.kernel,
                shards=tuple(
                    replace(shard, rank=rank)
                    for shard, rank in zip(option.shards, ranks[option.table.name], strict=True)
                ),
            )
            for option in options
        ),
    )


def smallest_shard(
    table: Table, cluster: Cluster, config: ShardingConfig, workload: Workload
) -> tuple[int, ShardingType]:
    """Bytes of a table's largest shard when it is cut as finely as allowed, and how."""
    options = (
        _option(table, sharding_type, cluster, config, workload)
        for sharding_type in _types(table, cluster, config)
    )
    return min(
        ((max(option.bytes), option.sharding_type) for option in options),
        key=lambda found: found[0],
    )
