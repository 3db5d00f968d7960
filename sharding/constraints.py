"""How tables may be cut: the choice a user has, free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, get_args

from pydantic import ConfigDict

from models.tables import WIDTH_STEP, SparseOptimizer, is_fused

ShardingType = Literal[
    "table_wise",
    "row_wise",
    "column_wise",
    "data_parallel",
    "table_row_wise",
    "table_column_wise",
    "grid_shard",
]
"""TorchRec's names: a whole table on one rank; cut by rows over all ranks; cut by columns; a copy
on every rank; cut by rows over the ranks of one host; cut by columns over the ranks of one host;
cut by columns over hosts, and each piece by rows over the ranks of its host."""

Kernel = Literal["fused", "fused_uvm", "fused_uvm_caching"]
"""``fused`` keeps tables in the device's memory, ``fused_uvm`` in host memory that a GPU reads,
``fused_uvm_caching`` likewise, with a cache of rows in the device's memory."""

Comms = Literal["fp32", "fp16", "bf16", "int8"]
"""Numbers that pooled vectors, or their gradients, travel between ranks in."""

SHARDING_TYPES: Final[tuple[ShardingType, ...]] = get_args(ShardingType)

HOST_TYPES: Final[tuple[ShardingType, ...]] = ("table_row_wise", "table_column_wise", "grid_shard")
"""Types whose shards lie on the ranks of one host together."""

Planner = Literal["own", "greedy", "grid_search", "dynamic_programming"]
"""Who places tables: we, or TorchRec's planner with one of its proposers."""

KERNELS: Final[tuple[Kernel, ...]] = get_args(Kernel)

_DEFAULT_TYPES: Final[tuple[ShardingType, ...]] = ("table_wise", "row_wise")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardingConfig:
    """Which ways of sharding a plan may use."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    types: tuple[ShardingType, ...] = _DEFAULT_TYPES
    """Allowed types, preferred first: a table takes the next one only where it does not fit.

    Column-wise and data-parallel tables may train differently, see ``docs/sharding.md``. The
    default becomes data_parallel under an optimizer that is not fused.
    """

    tables: Mapping[str, ShardingType] = field(default_factory=dict)
    """Type of single tables by name; wins over ``types``."""

    max_copied_rows: int = 0
    """Tables of at most so many rows are copied to all ranks (data_parallel) instead. A copy's
    gradient is less traffic than vectors are where a table has fewer rows than a rank's batch has
    examples, see ``docs/sharding.md``."""

    planner: Planner = "own"
    """Who places tables: we, who cut as little as memory allows, or TorchRec's planner with one of
    its proposers, which mixes the allowed types freely and is far slower."""

    min_partition: int = 4
    """Narrowest column shard; a multiple of 4. No table is cut into more shards than ranks."""

    kernel: Kernel = "fused"
    """Memory that tables live in: the device's own, or the host's, with or without a cache of rows
    on the device (GPU only)."""

    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    """Kernel of single tables by name; wins over ``kernel``. So tables that are read often may stay
    on the device, and large ones lie in host memory."""

    cache_load_factor: float = 0.2
    """Share of the rows that fused_uvm_caching keeps on the device; in (0, 1]."""

    comms: Comms = "fp32"
    """Numbers that pooled vectors travel between ranks in. fp16 and bf16 halve the traffic; int8 is
    refused, for TorchRec has it for some exchanges and batch sizes only."""

    comms_backward: Comms | None = None
    """The same for their gradients on the way back. If None, fp32 for fp32 and bf16 for others:
    an example's share in the gradient of a large batch is too small for fp16."""

    @property
    def gradient_comms(self) -> Comms:
        """Numbers that gradients travel in."""
        return self.comms_backward or ("fp32" if self.comms == "fp32" else "bf16")

    def __post_init__(self) -> None:
        if "int8" in (self.comms, self.comms_backward):
            raise ValueError(
                "comms='int8': TorchRec rounds runs of 32 numbers, which only fit batches of a "
                "multiple of 8 on every rank, and cannot add up rounded sums of tables cut by "
                "rows; use fp16 or bf16"
            )
        if not self.types:
            raise ValueError(f"types=(), expected at least one of {', '.join(SHARDING_TYPES)}")
        if self.max_copied_rows < 0:
            raise ValueError(f"max_copied_rows={self.max_copied_rows}, expected 0 or more")
        if self.min_partition < 1 or self.min_partition % WIDTH_STEP:
            nearest = max(WIDTH_STEP, -(-self.min_partition // WIDTH_STEP) * WIDTH_STEP)
            raise ValueError(
                f"min_partition={self.min_partition}, expected a positive multiple of "
                f"{WIDTH_STEP} (FBGEMM kernels); try {nearest}"
            )
        if self.kernels and self.planner != "own":
            raise ValueError(
                f"kernels of single tables and planner={self.planner!r}: TorchRec's planner is "
                f"asked for tables of one memory; use own"
            )
        if not 0 < self.cache_load_factor <= 1:
            raise ValueError(
                f"cache_load_factor={self.cache_load_factor}, expected in (0, 1]; try 0.2"
            )

    def kernel_of(self, table: str) -> Kernel:
        """Memory that one table lives in."""
        return self.kernels.get(table, self.kernel)

    def types_of(self, table: str, num_rows: int, num_ranks: int) -> tuple[ShardingType, ...]:
        """Types that one table may have on some ranks, preferred first."""
        if table in self.tables:
            return (self.tables[table],)
        # One rank has nobody to copy for, and the fused optimizer is the faster one.
        is_copied = num_ranks > 1 and num_rows <= self.max_copied_rows
        return ("data_parallel",) if is_copied else self.types

    def suiting(
        self, optimizer: SparseOptimizer, device: Literal["cpu", "cuda"]
    ) -> "ShardingConfig":
        """The same configuration, or data-parallel tables where FBGEMM lacks the optimizer.

        Raises:
            ValueError: If the configuration excludes data-parallel tables and they are needed.
        """
        if is_fused(optimizer, device):
            return self
        reason = f"{optimizer} is not fused on {device}, so every rank holds a copy of its tables"
        for table, asked in self.tables.items():
            if asked != "data_parallel":
                raise ValueError(
                    f"table {table!r}: sharding {asked!r}, but {reason}; use data_parallel or "
                    f"adagrad"
                )
        if self.types != _DEFAULT_TYPES and "data_parallel" not in self.types:
            raise ValueError(
                f"sharding types {', '.join(self.types)}, but {reason}; allow data_parallel or use "
                f"adagrad"
            )
        return replace(self, types=("data_parallel",))
