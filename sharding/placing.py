"""Place tables on ranks, or say what it would take."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from models.tables import PlanError, Table
from sharding.cluster import GIB, Cluster
from sharding.constraints import ShardingConfig
from sharding.cost import Workload
from sharding.packing import pack, smallest_shard
from sharding.placement import Placement, can_cut

_MOST_HOSTS_TRIED: Final = 1024


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
        ValueError: If the configuration names a table that does not exist or has too few rows.
    """
    _check_names(tables, config)
    _check_overrides(tables, cluster, config)
    if placement := pack(tables, cluster, config, workload):
        return placement
    raise _refusal(tables, cluster, config, workload)


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


def _check_overrides(tables: Sequence[Table], cluster: Cluster, config: ShardingConfig) -> None:
    for table in tables:
        asked = config.tables.get(table.name)
        if asked and not can_cut(table, asked, cluster):
            raise ValueError(
                f"table {table.name!r}: its {table.num_embeddings} rows cannot be cut {asked} over "
                f"{cluster.num_ranks} ranks without an empty shard; use table_wise"
            )


def _refusal(
    tables: Sequence[Table], cluster: Cluster, config: ShardingConfig, workload: Workload
) -> PlanError:
    """Say what does not fit, and the memory and the ranks that would do; both have been tried."""
    free_bytes = max(0, cluster.table_bytes(config.kernel) - workload.dense_bytes)
    needs = [(smallest_shard(table, cluster, config, workload), table.name) for table in tables]
    (need, sharding_type), worst = max(needs)
    enough = _enough_memory(tables, cluster, config, workload)
    advice = [f"give every rank {_size(enough)}"]
    if num_ranks := _enough_ranks(tables, cluster, config, workload):
        hosts = -(-num_ranks // cluster.ranks_per_host)
        advice.insert(0, f"use {num_ranks} ranks on {hosts} host(s)")
    by_rows = replace(config, types=(*config.types, "row_wise"), tables={})
    if pack(tables, cluster, by_rows, workload):
        advice.insert(0, "allow row_wise sharding")
    if need > free_bytes:
        what = f"table {worst!r} needs {_size(need)} on one rank ({sharding_type})"
    else:
        total = sum(table.num_embeddings * table.embedding_dim for table in tables)
        what = (
            f"{len(tables)} tables of {total:,} weights with their {workload.optimizer} state need "
            f"more than {cluster.num_ranks} rank(s) have"
        )
    return PlanError(
        f"{what} but no rank has more than {_size(free_bytes)} for tables; "
        f"{', or '.join(advice)}, or choose a smaller sizing budget",
        needed_bytes=enough,
        table=worst if need > free_bytes else None,
    )


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
        return pack(tables, larger, config, workload) is not None

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
        if pack(tables, replace(cluster, num_ranks=num_ranks), config, workload):
            return num_ranks
        num_ranks *= 2
    return None


def _size(num_bytes: int) -> str:
    """Bytes for people."""
    if num_bytes >= GIB:
        return f"{num_bytes / GIB:.1f} GiB"
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes} bytes"
