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
"""Bytes or nanoseconds, a number a shard or a rank."""


@dataclass(frozen=True, slots=True, eq=False)
class _Option:
    """One way to cut one table, with its price: two numbers a shard, however many ranks."""

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
        self._widest = max(table.embedding_dim for table in tables)

    def free_bytes(self, cluster: Cluster) -> int:
        """Memory of one rank that is left to tables, where they live."""
        free = cluster.table_bytes(self.config.kernel)
        is_shared = self.config.kernel == "fused" or cluster.device == "cpu"
        return max(0, free - (self.workload.dense_bytes if is_shared else 0))

    def place(self, cluster: Cluster) -> Placement | None:
        """Give every shard of every table a rank; None where memory does not suffice."""
        found = self._search(cluster)
        return _placement(*found, cluster, self.config) if found else None

    def fits(self, cluster: Cluster) -> bool:
        """Whether there is a placement, without making it."""
        return self._search(cluster) is not None

    def smallest_shard(self, table: Table, cluster: Cluster) -> tuple[int, ShardingType]:
        """Bytes of a table's largest shard when it is cut as finely as allowed, and how."""
        options = (self._option(table, kind, cluster) for kind in self._types(table, cluster))
        return min(
            ((int(option.bytes.max()), option.sharding_type) for option in options),
            key=lambda found: found[0],
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
        self, table: Table, types: Sequence[ShardingType], cluster: Cluster, free_bytes: int
    ) -> _Option | None:
        """The first way to cut a table whose shards fit on an empty rank."""
        options = (self._option(table, sharding_type, cluster) for sharding_type in types)
        return next((option for option in options if option.bytes.max() <= free_bytes), None)

    def _option(self, table: Table, sharding_type: ShardingType, cluster: Cluster) -> _Option:
        sizes = shard_sizes(table, sharding_type, cluster, self.config.min_partition)
        held, nanoseconds = [], []
        for size, count in sizes:
            seconds = sum(shard_seconds(table, size, sharding_type, cluster, self.workload))
            held += [self._needed_bytes(size, sharding_type, cluster)] * count
            nanoseconds += [round(seconds / _NANOSECOND)] * count
        return _Option(table, sharding_type, np.array(held), np.array(nanoseconds))

    def _needed_bytes(
        self, size: tuple[int, int], sharding_type: ShardingType, cluster: Cluster
    ) -> int:
        """Bytes of a shard where tables live; more where its cache is what fills a rank first."""
        held = shard_bytes(*size, sharding_type, self.workload.optimizer)
        if self.config.kernel != "fused_uvm_caching" or sharding_type == "data_parallel":
            return held
        # In the cache a row is as wide as the widest; the last set is rounded up once a rank.
        factor = self.config.cache_load_factor
        cached = cache_bytes([(size[0], self._widest)], factor)
        one_set = cache_bytes([(CACHE_WAYS, self._widest)], 1)
        room = cluster.device_bytes - self.workload.dense_bytes - one_set
        if room <= 0:
            return _NO_ROOM
        return max(held, -(-cached * self.free_bytes(cluster) // room))


def _assign(
    options: Sequence[_Option], cluster: Cluster, free_bytes: int
) -> Mapping[str, Amounts] | None:
    """Ranks of every table's shards, or None if some shard finds no room."""
    total_bytes = sum(int(option.bytes.sum()) for option in options) or 1
    if total_bytes > free_bytes * cluster.num_ranks:
        return None
    total_time = sum(int(option.nanoseconds.sum()) for option in options) or 1
    order = sorted(
        options,
        key=lambda option: (
            home_size(option.sharding_type, cluster) < cluster.num_ranks,  # no choice: first
            -max(option.bytes.max() / total_bytes, option.nanoseconds.max() / total_time),
            option.table.name,
        ),
    )
    free = np.full(cluster.num_ranks, free_bytes, np.int64)
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
        needs: Bytes of the shards that go to one home together, one to each of its ranks. Fewer
            than it has ranks go to those that are least busy.
        size: Ranks of a home.
        free: Free bytes by rank.
        busy: Nanoseconds by rank.
    """
    homes = np.arange(len(free)).reshape(-1, size)
    if len(needs) < size:
        has_room = free[homes] >= needs.max()
        idlest = np.argsort(np.where(has_room, busy[homes], _NO_ROOM), axis=1, kind="stable")
        homes = np.take_along_axis(homes, idlest[:, : len(needs)], axis=1)
    homes = homes[(free[homes] >= needs).all(axis=1)]
    if not len(homes):
        return None
    busiest = busy[homes].max(axis=1)
    idle = homes[busiest == busiest.min()]
    best: Amounts = idle[free[idle].min(axis=1).argmax()]
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
                kernel="dense" if option.sharding_type == "data_parallel" else config.kernel,
                cache_load_factor=_load_factor(option, config),
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


def _load_factor(option: _Option, config: ShardingConfig) -> float | None:
    is_cached = config.kernel == "fused_uvm_caching" and option.sharding_type != "data_parallel"
    return config.cache_load_factor if is_cached else None
