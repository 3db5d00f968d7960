"""What one shard of a table costs a rank: bytes exactly, seconds roughly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType
from typing import Final, Protocol

from models.sizing.budget import BYTE_COST
from models.tables import FLOAT_BYTES, SparseOptimizer, Table
from sharding.cluster import GIB, Cluster
from sharding.constraints import Comms, ShardingType

ID_BYTES: Final = 4
LENGTH_BYTES: Final = 4
"""Of a bag: how many ids it has, which travels before them."""

COMM_BYTES: Final[Mapping[Comms, int]] = MappingProxyType({"fp32": 4, "fp16": 2, "bf16": 2})
"""Bytes of a number that travels between ranks."""

CACHE_WAYS: Final = 32
"""Slots of a set of FBGEMM's cache on GPUs."""

TABLE_PASSES: Final = 3
"""Times a looked-up row crosses memory: read forward; read and written by the optimizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """How the tables are used: what a cost depends on besides table and cluster."""

    batch_size: int
    """Examples per rank and step."""

    optimizer: SparseOptimizer = "rowwise_adagrad"
    """Optimizer of the tables; decides the bytes of their state."""

    pooling_factors: Mapping[str, float] = field(default_factory=dict)
    """Mean ids per example by table; 1 where a table is not named."""

    dense_bytes: int = 0
    """Memory every rank keeps for parameters, gradients and optimizer state of other layers."""

    comms: Comms = "fp32"
    """Numbers that pooled vectors travel between ranks in."""

    gradient_comms: Comms = "fp32"
    """Numbers that their gradients travel back in."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}, expected at least 1")


def weight_bytes(num_rows: int, num_columns: int) -> int:
    """Bytes of a shard's weights."""
    return num_rows * num_columns * FLOAT_BYTES


def whole_bytes(table: Table, optimizer: SparseOptimizer) -> int:
    """Bytes of an uncut table with the state of its optimizer."""
    return shard_bytes(table.num_embeddings, table.embedding_dim, "table_wise", optimizer)


def shard_bytes(
    num_rows: int, num_columns: int, sharding_type: ShardingType, optimizer: SparseOptimizer
) -> int:
    """Bytes of a shard: weights, optimizer state, and a data-parallel copy's dense gradient."""
    cost = BYTE_COST[optimizer]
    held = num_rows * (num_columns * cost.per_weight + cost.per_row)
    if sharding_type == "data_parallel":
        held += weight_bytes(num_rows, num_columns)
    return held


def cache_bytes(shapes: Sequence[tuple[int, int]], load_factor: float) -> int:
    """Device memory of one rank's cache of host tables, as FBGEMM allocates it.

    A row of the cache is as wide as the widest shard, so a narrow table among wide ones gains
    nothing there. Each slot has a key and a time besides, each row of a shard its table's number.

    Args:
        shapes: Rows and columns of the rank's shards.
        load_factor: Share of the rows that are cached.
    """
    if not shapes:
        return 0
    num_rows = sum(rows for rows, _ in shapes)
    num_slots = max(1, ceil(int(num_rows * load_factor) / CACHE_WAYS)) * CACHE_WAYS
    widest = max(columns for _, columns in shapes)
    return num_slots * (widest * FLOAT_BYTES + 16) + num_rows * 4


def sent_vectors(sharding_type: ShardingType, cluster: Cluster, batch_size: int) -> tuple[int, int]:
    """Pooled vectors that the rank of a shard sends in a forward pass.

    A row shard sends its partial sum of *every* example, so cutting a table by rows over N ranks
    multiplies the traffic by N; cutting it by columns leaves it as it is. Cut by rows over a host,
    the host's ranks first add up their sums among each other; then each sends those of an equal
    share of the examples on.

    Returns:
        Vectors to ranks of the same host, and to ranks of other hosts.
    """
    ranks, local, hosts = cluster.num_ranks, cluster.local_size, cluster.num_hosts
    match sharding_type:
        case "data_parallel":
            return 0, 0
        case "table_row_wise" | "grid_shard":
            return batch_size * (ranks - hosts), batch_size * (hosts - 1)
        case _:
            return batch_size * (local - 1), batch_size * (ranks - local)


def sent_bytes(
    num_columns: int, sharding_type: ShardingType, cluster: Cluster, workload: Workload
) -> int:
    """Bytes of pooled vectors that the rank of a shard sends to other ranks in a forward pass."""
    vectors = sum(sent_vectors(sharding_type, cluster, workload.batch_size))
    return vectors * num_columns * COMM_BYTES[workload.comms]


class Shaped(Protocol):
    """A table, or its placement: what a cost must know of it."""

    @property
    def name(self) -> str:
        """Name that pooling factors are given by."""

    @property
    def num_embeddings(self) -> int:
        """Rows of the whole table."""


def shard_seconds(
    table: Shaped,
    size: tuple[int, int],
    sharding_type: ShardingType,
    cluster: Cluster,
    workload: Workload,
) -> tuple[float, float]:
    """Seconds that a shard of ``size`` rows x columns adds to its rank's step.

    Good for ranking one placement against another; how far they are from the truth on a measured
    machine is in ``docs/sharding.md``.

    Returns:
        Seconds of lookup and update, and seconds of exchange with other ranks.
    """
    num_rows, num_columns = size
    pooling_factor = workload.pooling_factors.get(table.name, 1.0)
    is_copy = sharding_type == "data_parallel"
    examples = workload.batch_size * (1 if is_copy else cluster.num_ranks)
    num_ids = examples * pooling_factor * num_rows / table.num_embeddings
    held = shard_bytes(num_rows, num_columns, sharding_type, workload.optimizer)
    lookup = num_ids * seconds_per_id(num_columns, held, cluster)
    if is_copy:  # a dense optimizer reads and writes all rows; all-reduce of their gradient
        lookup += 2 * held / cluster.memory_bytes_per_second
        crossing = 2 * weight_bytes(num_rows, num_columns) * (1 - 1 / cluster.num_ranks)
        slowest = (crossing, 0.0) if cluster.num_hosts == 1 else (0.0, crossing)
        return lookup, _link_seconds(slowest, cluster)
    # Pooled vectors forward, their gradients backward, ids once.
    near, far = sent_vectors(sharding_type, cluster, workload.batch_size)
    moved = num_columns * (COMM_BYTES[workload.comms] + COMM_BYTES[workload.gradient_comms])
    asked = workload.batch_size * LENGTH_BYTES + num_ids * ID_BYTES / cluster.num_ranks  # by a rank
    far_ranks = cluster.num_ranks - cluster.local_size
    crossing_bytes = (
        near * moved + asked * (cluster.local_size - 1),
        far * moved + asked * far_ranks,
    )
    return lookup, _link_seconds(crossing_bytes, cluster)


def _link_seconds(num_bytes: tuple[float, float], cluster: Cluster) -> float:
    """Seconds of bytes that stay on a host, and of bytes that leave it."""
    near, far = num_bytes
    seconds = near / cluster.intra_host_bytes_per_second
    return seconds + far / cluster.inter_host_bytes_per_second


def seconds_per_id(num_columns: int, held_bytes: int, cluster: Cluster) -> float:
    """Seconds of one id's forward, backward and update in a table of ``held_bytes``.

    An id costs a fixed time and the time of its bytes, both more where its row is not in a cache:
    narrowing a table from 32 to 4 columns saves 7/8 of a row's bytes, not of its time.
    """
    missed = miss_ratio(held_bytes, cluster.cache_bytes)
    moved = TABLE_PASSES * num_columns * FLOAT_BYTES
    return (
        cluster.lookup_seconds
        + (1 - missed) * moved / cluster.cache_bytes_per_second
        + missed * (cluster.miss_seconds + moved / cluster.memory_bytes_per_second)
    )


def miss_ratio(held_bytes: int, cache_bytes: int) -> float:
    """Share of evenly spread lookups whose row is not in the cache; ids of logs repeat more."""
    return max(0.0, 1 - cache_bytes / held_bytes) if held_bytes else 0.0


def format_bytes(num_bytes: float) -> str:
    """Bytes for people."""
    for unit, name in ((2**40, "TiB"), (GIB, "GiB"), (2**20, "MiB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:,.1f} {name}"
    return f"{num_bytes:,.0f} bytes"
