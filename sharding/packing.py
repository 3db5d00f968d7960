"""Choose where tables live: as little cutting as memory allows, then the shortest step.

Every table is cut the first way its configuration allows, and placed on the ranks that are least
busy by then, the costliest tables first. Where that does not fit, the largest tables take their
next way, until it does. TorchRec's planner searches by itself, but needs minutes for a thousand
tables on 64 ranks, and mixes the ways of cutting freely, also where nothing calls for it.

Ties are broken by names and ranks only: every rank that computes a plan computes the same one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from models.tables import PlanError, Table
from sharding.cluster import GIB, Cluster
from sharding.constraints import ShardingConfig, ShardingType
from sharding.cost import Workload, shard_bytes, shard_seconds
from sharding.placement import Placement, Shard, TablePlacement, cut, homes

_NANOSECOND = 1e-9
_MOST_HOSTS_TRIED = 1024


def place(
    tables: Sequence[Table], cluster: Cluster, config: ShardingConfig, workload: Workload
) -> Placement:
    """Give every shard of every table a rank.

    Args:
        tables: Tables with names of their own.
        cluster: Ranks, memory and bandwidths.
        config: Allowed ways of cutting.
        workload: Batch size, optimizer, pooling factors, bytes of other layers.

    Raises:
        PlanError: If memory does not suffice; says how much, or how many ranks, would.
        ValueError: If the configuration names a table that does not exist.
    """
    _check_names(tables, config)
    if placement := try_to_place(tables, cluster, config, workload):
        return placement
    raise refusal(tables, cluster, config, workload)


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to cut one table, with its price."""

    table: Table
    sharding_type: ShardingType
    shards: tuple[Shard, ...]
    bytes: tuple[int, ...]
    nanoseconds: tuple[int, ...]


def try_to_place(
    tables: Sequence[Table], cluster: Cluster, config: ShardingConfig, workload: Workload
) -> Placement | None:
    """Cut the largest tables further until all fit; None when there is nothing left to cut."""
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
        if ranks := _pack(picked, cluster, free_bytes):
            return _placement(picked, ranks, cluster, config)
        divisible = [o for o in picked if chosen[o.table.name] + 1 < len(options[o.table.name])]
        if not divisible:
            return None
        divisible.sort(key=lambda option: (-max(option.bytes), option.table.name))
        for option in divisible[:num_to_cut]:
            chosen[option.table.name] += 1
        num_to_cut *= 2  # a thousand tables must not mean a thousand attempts


def _types(table: Table, cluster: Cluster, config: ShardingConfig) -> Sequence[ShardingType]:
    """Ways to cut a table; whole where it has too few rows for those that are allowed.

    A row shard must not be empty: on CPUs its rank crashes or waits for ever.
    """
    allowed = config.types_of(table.name)
    cuttable = [
        sharding_type
        for sharding_type in allowed
        if all(s.num_rows for s in cut(table, sharding_type, cluster, config.min_partition))
    ]
    if not cuttable and table.name in config.tables:
        raise ValueError(
            f"table {table.name!r}: {table.num_embeddings} rows cannot be cut {allowed[0]} without "
            f"an empty shard on one of {cluster.num_ranks} ranks; use table_wise"
        )
    return cuttable or ["table_wise"]


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


def _pack(
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


def _check_names(tables: Sequence[Table], config: ShardingConfig) -> None:
    counts = Counter(table.name for table in tables)
    if not counts:
        raise ValueError("no tables to place; give the planner at least one")
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise ValueError(f"tables {twice} occur more than once; give every table its own name")
    if unknown := sorted(set(config.tables) - set(counts)):
        raise ValueError(
            f"sharding: tables {unknown} do not exist; tables: {', '.join(sorted(counts)[:20])}"
        )


def refusal(
    tables: Sequence[Table], cluster: Cluster, config: ShardingConfig, workload: Workload
) -> PlanError:
    """Say what does not fit, and the memory and the ranks that would do; both have been tried."""
    free_bytes = max(0, cluster.table_bytes(config.kernel) - workload.dense_bytes)
    smallest = {table.name: _smallest(table, cluster, config, workload) for table in tables}
    worst = max(tables, key=lambda table: max(smallest[table.name].bytes))
    need = max(smallest[worst.name].bytes)
    enough = _enough_memory(tables, cluster, config, workload)
    advice = [f"give every rank {size_text(enough)}"]
    if num_ranks := _enough_ranks(tables, cluster, config, workload):
        hosts = -(-num_ranks // cluster.ranks_per_host)
        advice.insert(0, f"use {num_ranks} ranks on {hosts} host(s)")
    if need > free_bytes:
        if "row_wise" not in config.types_of(worst.name):
            advice.insert(0, "shard it row-wise")
        what = (
            f"table {worst.name!r} needs {size_text(need)} on one rank "
            f"({smallest[worst.name].sharding_type})"
        )
    else:
        total = sum(sum(smallest[table.name].bytes) for table in tables)
        what = f"{len(tables)} tables need {size_text(total)} on {cluster.num_ranks} rank(s)"
    return PlanError(
        f"{what} but no rank has more than {size_text(free_bytes)} for tables; "
        f"{', '.join(advice)}, or choose a smaller sizing budget",
        needed_bytes=enough,
        table=worst.name if need > free_bytes else None,
    )


def _smallest(
    table: Table, cluster: Cluster, config: ShardingConfig, workload: Workload
) -> _Option:
    options = [
        _option(table, sharding_type, cluster, config, workload)
        for sharding_type in _types(table, cluster, config)
    ]
    return min(options, key=lambda option: max(option.bytes))


def _enough_memory(
    tables: Sequence[Table], cluster: Cluster, config: ShardingConfig, workload: Workload
) -> int:
    """Memory of one rank with which a plan exists, at most 2 % above the least."""
    name = cluster.memory_field(config.kernel)
    low: int = getattr(cluster, name)
    high = 2 * low

    def fits(memory_bytes: int) -> bool:
        if name == "hbm_bytes":
            larger = replace(cluster, hbm_bytes=memory_bytes)
        else:
            larger = replace(cluster, ddr_bytes=memory_bytes)
        return try_to_place(tables, larger, config, workload) is not None

    while not fits(high):
        low, high = high, 2 * high
    while high - low > high // 50:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _enough_ranks(
    tables: Sequence[Table], cluster: Cluster, config: ShardingConfig, workload: Workload
) -> int | None:
    """Ranks with which a plan exists, doubling; None if even a thousand hosts do not help."""
    num_ranks = 2 * cluster.num_ranks
    while num_ranks <= _MOST_HOSTS_TRIED * cluster.ranks_per_host:
        if try_to_place(tables, replace(cluster, num_ranks=num_ranks), config, workload):
            return num_ranks
        num_ranks *= 2
    return None


def size_text(num_bytes: int) -> str:
    """Bytes for people."""
    if num_bytes >= 0.1 * GIB:
        return f"{num_bytes / GIB:.1f} GiB"
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes} bytes"
