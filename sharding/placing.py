"""Place tables on ranks, or say what it would take."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from models.tables import PlanError, Table, is_fused
from sharding.cluster import Cluster
from sharding.constraints import ShardingConfig, ShardingType
from sharding.cost import Workload, format_bytes, whole_bytes
from sharding.packing import Packer
from sharding.placement import Placement, can_cut

_MOST_HOSTS_TRIED: Final = 1024
_BUDGETS_TRIED: Final = 7
"""Halvings of the interval in which the largest budget that fits is sought: below 1 %."""


def place(
    tables: Sequence[Table], cluster: Cluster, config: ShardingConfig, workload: Workload
) -> Placement:
    """Give every shard of every table a rank.

    Tables of an optimizer that is not fused on the cluster's device are data-parallel.

    Args:
        tables: Tables with names of their own.
        cluster: Ranks, memory and bandwidths.
        config: Allowed ways of cutting.
        workload: Batch size, optimizer, pooling factors, bytes of other layers.

    Raises:
        PlanError: If memory does not suffice; says how much, or how many ranks, would.
        ValueError: If the configuration names a table that does not exist or has too few rows, or
            excludes what the optimizer needs.
    """
    config = config.suiting(workload.optimizer, cluster.device)
    _check_names(tables, config)
    _check_overrides(tables, cluster, config)
    packer = Packer(tables, config, workload)
    if config.planner != "own":
        from sharding.torchrec_planner import search  # torch: seconds, for those who ask for it

        return search(packer, cluster)
    if placement := packer.place(cluster):
        return placement
    raise _refusal(packer, cluster)


def _check_names(tables: Sequence[Table], config: ShardingConfig) -> None:
    counts = Counter(table.name for table in tables)
    if not counts:
        raise ValueError("no tables to place; give the planner at least one")
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise ValueError(f"tables {twice} occur more than once; give every table its own name")
    if unknown := sorted({*config.tables, *config.kernels} - set(counts)):
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


def _refusal(packer: Packer, cluster: Cluster) -> PlanError:
    """Say what does not fit, and the memory, ranks and budget that would do, all of them tried."""
    tables, workload = packer.tables, packer.workload
    need, worst, sharding_type, free_bytes = _neediest(packer, cluster)
    enough = _enough_memory(packer, cluster)
    if need > free_bytes:
        what = f"table {worst!r} needs {format_bytes(need)} on one rank ({sharding_type})"
    else:
        needed = sum(whole_bytes(table, workload.optimizer) for table in tables)
        what = (
            f"{len(tables):,} tables need {format_bytes(needed)} with their {workload.optimizer} "
            f"state"
        )
    there = (
        f"{cluster.num_ranks:,} rank(s) have {format_bytes(free_bytes)} each for tables, "
        f"{format_bytes(free_bytes * cluster.num_ranks)} in all"
    )
    return PlanError(
        f"{what}, but {there}; {', or '.join(_advice(packer, cluster, enough))}",
        needed_bytes=enough,
        table=worst if need > free_bytes else None,
    )


def _neediest(packer: Packer, cluster: Cluster) -> tuple[int, str, ShardingType, int]:
    """The table with the largest shard, of those that fit nowhere if there are any.

    Returns:
        Its bytes, name and sharding type, and the room in the memory that it needs most of.
    """
    free = packer.free_bytes(cluster).tolist()
    needs = [
        (need > free[memory], need, table.name, sharding_type, free[memory])
        for table in packer.tables
        for shard, sharding_type in [packer.smallest_shard(table, cluster)]
        for memory, need in enumerate(shard.tolist())
    ]
    return max(needs)[1:]


def _advice(packer: Packer, cluster: Cluster, enough_bytes: int) -> list[str]:
    """What would do, the least trouble first."""
    rounded = format_bytes(enough_bytes)
    exact = f"{enough_bytes:,} bytes"
    advice = [f"give every rank {exact}" + (f" ({rounded})" if rounded != exact else "")]
    if packer.kernels & {"fused_uvm", "fused_uvm_caching"} and packer.kernels != {"fused_uvm"}:
        advice[0] += " of host memory, and device memory in proportion"
    if num_ranks := _enough_ranks(packer, cluster):
        hosts = -(-num_ranks // cluster.ranks_per_host)
        advice.insert(0, f"use {num_ranks:,} ranks on {hosts:,} host(s)")
    types = (*packer.config.types, "row_wise")
    by_rows = Packer(packer.tables, replace(packer.config, types=types, tables={}), packer.workload)
    if is_fused(packer.workload.optimizer, cluster.device) and by_rows.fits(cluster):
        advice.insert(0, "allow row_wise sharding")
    if budget := _enough_budget(packer, cluster):
        advice.append(
            f"size again with `mixdim size --budget {budget}` ({format_bytes(budget)}, at which "
            f"tables of these proportions fit)"
        )
    return advice


def _enough_memory(packer: Packer, cluster: Cluster) -> int:
    """Memory of one rank with which a plan exists, at most 2 % above the least."""
    # The host's, where there are tables on both.
    name = min(cluster.memory_field(kernel) for kernel in packer.kernels)
    low: int = getattr(cluster, name)
    high = 2 * low
    device_ratio = cluster.hbm_bytes / low

    def fits(memory_bytes: int) -> bool:
        if name == "hbm_bytes":
            return packer.fits(replace(cluster, hbm_bytes=memory_bytes))
        # A cache of host tables is on the device, whose memory grows alike.
        hbm_bytes = int(memory_bytes * device_ratio)
        return packer.fits(replace(cluster, ddr_bytes=memory_bytes, hbm_bytes=hbm_bytes))

    while not fits(high):
        low, high = high, 2 * high
    while high - low > high // 50:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _enough_ranks(packer: Packer, cluster: Cluster) -> int | None:
    """Ranks with which a plan exists, doubling; None if even a thousand hosts do not help."""
    num_ranks = 2 * cluster.num_ranks
    while num_ranks <= _MOST_HOSTS_TRIED * cluster.ranks_per_host:
        if packer.fits(replace(cluster, num_ranks=num_ranks)):
            return num_ranks
        num_ranks *= 2
    return None


def _enough_budget(packer: Packer, cluster: Cluster) -> int | None:
    """Bytes of tables that fit, all of them scaled alike by rows; None where nothing does."""
    low, high, found = 0.0, 1.0, None
    for _ in range(_BUDGETS_TRIED):
        middle = (low + high) / 2
        scaled = [
            replace(table, num_embeddings=max(1, int(table.num_embeddings * middle)))
            for table in packer.tables
        ]
        if Packer(scaled, packer.config, packer.workload).fits(cluster):
            low = middle
            found = sum(whole_bytes(table, packer.workload.optimizer) for table in scaled)
        else:
            high = middle
    return found
