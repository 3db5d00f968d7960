"""Choose where tables live: as little cutting as memory allows, then the shortest step.

Every table is cut the first way its configuration allows, and placed on the ranks that are least
busy by then, the costliest tables first. Where that does not fit, the largest tables take their
next way, until it does. TorchRec's planner searches by itself, but needs minutes for a thousand
tables on 64 ranks, and mixes the ways of cutting freely, also where nothing calls for it.

Ties are broken by names and ranks only: every rank that computes a plan computes the same one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.tables import Table
from sharding.cluster import Cluster
from sharding.constraints import ShardingConfig, ShardingType
from sharding.cost import CACHE_WAYS, Workload, cache_bytes, shard_bytes, shard_seconds
from sharding.placement import (
    Placement,
    TablePlacement,
    can_cut,
    cut,
    home_size,
    shard_sizes,
)

_NANOSECOND = 1e-9
_NO_ROOM = 2**62
"""Bytes of a shard that fits nowhere."""

Amounts = NDArray[np.int64]
"""Bytes or nanoseconds, a number or row a shard or a rank. Bytes are a column a memory: those of
the device, and of its host where the device is not the host itself."""


@dataclass(frozen=True, slots=True, eq=False)
class _Option:
    """One way to cut one table, with its price: three numbers a shard, however many ranks."""

    table: Table
    sharding_type: ShardingType
    bytes: Amounts
    nanoseconds: Amounts


class Packer:
    """Places one set of tables, for any memory and any number of ranks of one kind of cluster.

    Args:
        tables: Tables with names of their own.
        config: Allowed ways of cutting.
        workload: How the tables are used.
    """

    def __init__(self, tables: Sequence[Table], config: ShardingConfig, workload: Workload) -> None:
        self.tables = tables
        self.config = config
        self.workload = workload
        self.kernels = {config.kernel_of(table.name) for table in tables}
        self._widest = max(
            (t.embedding_dim for t in tables if config.kernel_of(t.name) == "fused_uvm_caching"),
            default=0,
        )

    def free_bytes(self, cluster: Cluster) -> Amounts:
        """What one rank has left for tables of the memory of its device, and of its host.

        Raises:
            ValueError: If a kernel needs a GPU and the cluster has none.
        """
        fields = {cluster.memory_field(kernel) for kernel in self.kernels}
        # In a cache the last set is rounded up once a rank.
        one_set = cache_bytes([(CACHE_WAYS, self._widest)], 1) if self._widest else 0
        device = cluster.device_bytes - self.workload.dense_bytes - one_set
        is_on_host = cluster.device == "cuda" and "ddr_bytes" in fields
        host = cluster.table_bytes("fused_uvm") if is_on_host else 0
        return np.array([max(0, device), host])

    def place(self, cluster: Cluster) -> Placement | None:
        """Give every shard of every table a rank; None where memory does not suffice."""
        found = self._search(cluster)
        return _placement(*found, cluster, self.config) if found else None

    def fits(self, cluster: Cluster) -> bool:
        """Whether there is a placement, without making it."""
        return self._search(cluster) is not None

    def smallest_shard(self, table: Table, cluster: Cluster) -> tuple[Amounts, ShardingType]:
        """Bytes of a table's largest shard when it is cut as finely as allowed, and how."""
        options = (self._option(table, kind, cluster) for kind in self._types(table, cluster))
        return min(
            ((option.bytes.max(axis=0), option.sharding_type) for option in options),
            key=lambda found: int(found[0].max()),
        )

    def _search(self, cluster: Cluster) -> tuple[list[_Option], Mapping[str, Amounts]] | None:
        free_bytes = self.free_bytes(cluster)
        ways = {table.name: self._types(table, cluster) for table in self.tables}
        picked = {}
        for table in self.tables:
            if (first := self._next(table, ways[table.name], cluster, free_bytes)) is None:
                return None
            picked[table.name] = first
        num_to_cut = 1
        while (ranks := _assign(list(picked.values()), cluster, free_bytes)) is None:
            divisible = [
                option for name, option in picked.items() if option.sharding_type != ways[name][-1]
            ]
            if not divisible:
                return None
            divisible.sort(key=lambda option: (-option.bytes.max(), option.table.name))
            for option in divisible[:num_to_cut]:
                name = option.table.name
                following = ways[name].index(option.sharding_type) + 1
                picked[name] = self._option(option.table, ways[name][following], cluster)
            num_to_cut *= 2  # a thousand tables must not mean a thousand attempts
        return list(picked.values()), ranks

    def _types(self, table: Table, cluster: Cluster) -> Sequence[ShardingType]:
        """Ways to cut a table; whole where it has too few rows for those that are allowed."""
        types = self.config.types_of(table.name, table.num_embeddings, cluster.num_ranks)
        allowed = dict.fromkeys(types)
        return [name for name in allowed if can_cut(table, name, cluster)] or ["table_wise"]

    def _next(
        self, table: Table, types: Sequence[ShardingType], cluster: Cluster, free_bytes: Amounts
    ) -> _Option | None:
        """The first way to cut a table whose shards fit on an empty rank."""
        options = (self._option(table, sharding_type, cluster) for sharding_type in types)
        return next((option for option in options if (option.bytes <= free_bytes).all()), None)

    def _option(self, table: Table, sharding_type: ShardingType, cluster: Cluster) -> _Option:
        sizes = shard_sizes(table, sharding_type, cluster, self.config.min_partition)
        held, nanoseconds = [], []
        for size, count in sizes:
            seconds = sum(shard_seconds(table, size, sharding_type, cluster, self.workload))
            held += [self._needed_bytes(table, size, sharding_type, cluster)] * count
            nanoseconds += [round(seconds / _NANOSECOND)] * count
        return _Option(table, sharding_type, np.array(held), np.array(nanoseconds))

    def _needed_bytes(
        self, table: Table, size: tuple[int, int], sharding_type: ShardingType, cluster: Cluster
    ) -> tuple[int, int]:
        """Bytes of a shard on the device and on the host."""
        held = shard_bytes(*size, sharding_type, self.workload.optimizer)
        kernel = self.config.kernel_of(table.name)
        is_copy = sharding_type == "data_parallel"
        if cluster.device == "cpu" or kernel == "fused" or is_copy:
            return held, 0
        if kernel == "fused_uvm":
            return 0, held
        # In the cache a row is as wide as the widest.
        return cache_bytes([(size[0], self._widest)], self.config.cache_load_factor), held


def _assign(
    options: Sequence[_Option], cluster: Cluster, free_bytes: Amounts
) -> Mapping[str, Amounts] | None:
    """Ranks of every table's shards, or None if some shard finds no room."""
    total_bytes = sum(option.bytes.sum(axis=0) for option in options)
    if (total_bytes > free_bytes * cluster.num_ranks).any():
        return None
    total_bytes = np.maximum(total_bytes, 1)
    total_time = sum(int(option.nanoseconds.sum()) for option in options) or 1
    order = sorted(
        options,
        key=lambda option: (
            home_size(option.sharding_type, cluster) < cluster.num_ranks,  # no choice: first
            -max((option.bytes / total_bytes).max(), option.nanoseconds.max() / total_time),
            option.table.name,
        ),
    )
    free = np.tile(free_bytes, (cluster.num_ranks, 1))
    busy = np.zeros(cluster.num_ranks, np.int64)
    ranks: dict[str, Amounts] = {}
    for option in order:
        size = home_size(option.sharding_type, cluster)
        placed = []
        for first in range(0, len(option.bytes), size):
            group = slice(first, first + size)
            home = _best_home(option.bytes[group], size, free, busy)
            if home is None:
                return None
            free[home] -= option.bytes[group]
            busy[home] += option.nanoseconds[group]
            placed.append(home)
        ranks[option.table.name] = np.concatenate(placed)
    return ranks


def _best_home(needs: Amounts, size: int, free: Amounts, busy: Amounts) -> Amounts | None:
    """Ranks of the home with room whose busiest is least busy; of the emptiest among equals.

    Args:
        needs: Bytes of the shards that go to one home together, one to each of its ranks, by
            memory. Fewer than it has ranks go to those that are least busy.
        size: Ranks of a home.
        free: Free bytes by rank and memory.
        busy: Nanoseconds by rank.
    """
    homes = np.arange(len(free)).reshape(-1, size)
    if len(needs) < size:
        has_room = (free[homes] >= needs.max(axis=0)).all(axis=-1)
        idlest = np.argsort(np.where(has_room, busy[homes], _NO_ROOM), axis=1, kind="stable")
        homes = np.take_along_axis(homes, idlest[:, : len(needs)], axis=1)
    homes = homes[(free[homes] >= needs).all(axis=(1, 2))]
    if not len(homes):
        return None
    busiest = busy[homes].max(axis=1)
    idle = homes[busiest == busiest.min()]
    best: Amounts = idle[free[idle].sum(axis=-1).min(axis=1).argmax()]
    return best


def _placement(
    options: Sequence[_Option],
    ranks: Mapping[str, Amounts],
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
                kernel=(kernel := _kernel(option, config)),
                cache_load_factor=config.cache_load_factor
                if kernel == "fused_uvm_caching"
                else None,
                shards=tuple(
                    replace(shard, rank=rank)
                    for shard, rank in zip(
                        cut(option.table, option.sharding_type, cluster, config.min_partition),
                        ranks[option.table.name].tolist(),
                        strict=True,
                    )
                ),
            )
            for option in options
        ),
    )


def _kernel(option: _Option, config: ShardingConfig) -> str:
    is_copy = option.sharding_type == "data_parallel"
    return "dense" if is_copy else config.kernel_of(option.table.name)
