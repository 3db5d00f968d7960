"""What one shard of a table costs a rank: bytes exactly, seconds roughly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from models.sizing.budget import BYTE_COST
from models.tables import FLOAT_BYTES, SparseOptimizer, Table
from sharding.cluster import Cluster
from sharding.constraints import ShardingType

ID_BYTES: Final = 8

_TABLE_PASSES: Final = 3
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

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}, expected at least 1")


def weight_bytes(num_rows: int, num_columns: int) -> int:
    """Bytes of a shard's weights."""
    return num_rows * num_columns * FLOAT_BYTES


def shard_bytes(
    num_rows: int, num_columns: int, sharding_type: ShardingType, optimizer: SparseOptimizer
) -> int:
    """Bytes of a shard: weights, optimizer state, and a data-parallel copy's dense gradient."""
    cost = BYTE_COST[optimizer]
    held = num_rows * (num_columns * cost.per_weight + cost.per_row)
    if sharding_type == "data_parallel":
        held += weight_bytes(num_rows, num_columns)
    return held


def sent_bytes(
    num_columns: int, sharding_type: ShardingType, cluster: Cluster, batch_size: int
) -> int:
    """Bytes of pooled vectors that the rank of a shard sends to other ranks in a forward pass.

    A row shard sends its partial sum of *every* example, so cutting a table by rows over N ranks
    multiplies the traffic by N; cutting it by columns leaves it as it is.
    """
    if sharding_type == "data_parallel":
        return 0
    return batch_size * (cluster.num_ranks - 1) * num_columns * FLOAT_BYTES


def shard_seconds(
    table: Table,
    size: tuple[int, int],
    sharding_type: ShardingType,
    cluster: Cluster,
    workload: Workload,
) -> float:
    """Seconds that a shard of ``size`` rows x columns adds to its rank's step.

    Bandwidth alone: good for ranking one placement against another, not for promises.
    """
    num_rows, num_columns = size
    batch_size = workload.batch_size
    pooling_factor = workload.pooling_factors.get(table.name, 1.0)
    examples = batch_size * (1 if sharding_type == "data_parallel" else cluster.num_ranks)
    num_ids = examples * pooling_factor * num_rows / table.num_embeddings
    rows_moved = _TABLE_PASSES * num_ids * num_columns * FLOAT_BYTES
    if sharding_type == "data_parallel":  # all-reduce of the dense gradient
        crossing = 2 * weight_bytes(num_rows, num_columns) * (1 - 1 / cluster.num_ranks)
    else:  # pooled vectors forward, their gradients backward, ids once
        away = 1 - 1 / cluster.num_ranks
        pooled = sent_bytes(num_columns, sharding_type, cluster, batch_size)
        crossing = 2 * pooled + num_ids * ID_BYTES * away
    return rows_moved / cluster.memory_bytes_per_second + crossing / cluster.link_bytes_per_second
