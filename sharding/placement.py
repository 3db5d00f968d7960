"""Where every table lives: shards, and how tables are cut into them. Plain data, free of torch."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import ClassVar, Literal, Protocol

from pydantic import ConfigDict

from models.tables import WIDTH_STEP
from sharding.constraints import HOST_TYPES, ShardingType

_STRICT = ConfigDict(extra="forbid")


class Hosts(Protocol):
    """A cluster, or a placement on it: what a cut must know of the ranks."""

    @property
    def num_ranks(self) -> int:
        """Processes of the job."""

    @property
    def local_size(self) -> int:
        """Ranks on one host."""


class Shaped(Protocol):
    """A table, or its placement: what a cut must know of it."""

    @property
    def num_embeddings(self) -> int:
        """Rows of the whole table."""

    @property
    def embedding_dim(self) -> int:
        """Columns of the whole table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A rectangle of a table on one rank."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    rank: int
    num_rows: int
    num_columns: int
    first_row: int = 0
    first_column: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.num_rows, self.num_columns


@dataclass(frozen=True, kw_only=True, slots=True)
class TablePlacement:
    """One table: how it is cut and where its shards are."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    num_embeddings: int
    embedding_dim: int
    sharding_type: ShardingType
    kernel: str
    """TorchRec's compute kernel; ``dense`` for data-parallel tables, which fuse no optimizer."""
    shards: tuple[Shard, ...] = ()
    """In the order of their columns, then of their rows; for a data-parallel table one full copy a
    rank. Left out in a file, the table is cut evenly from rank 0 on."""
    cache_load_factor: float | None = None
    """Share of the rows that fused_uvm_caching keeps on the device; None for other kernels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """A sharding plan: every table, on ``num_ranks`` ranks of one kind.

    Whether shards tile their tables, and lie where TorchRec looks for them, is for
    `sharding.tiling.check_placement` to say.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    num_ranks: int
    ranks_per_host: int
    device: Literal["cpu", "cuda"]
    tables: tuple[TablePlacement, ...]

    def __post_init__(self) -> None:
        counts = Counter(table.name for table in self.tables)
        if twice := sorted(name for name, count in counts.items() if count > 1):
            raise ValueError(f"tables {twice} are placed more than once; keep one of each")

    @property
    def local_size(self) -> int:
        """Ranks on one host."""
        return min(self.ranks_per_host, self.num_ranks)


def cut(
    table: Shaped, sharding_type: ShardingType, hosts: Hosts, min_partition: int
) -> list[Shard]:
    """Shards of a table in the shapes TorchRec expects, all still on rank 0."""
    if sharding_type == "data_parallel":
        return _grid(table, 1, table.embedding_dim) * hosts.num_ranks
    width = shard_width(table, sharding_type, hosts, min_partition)
    return _grid(table, num_row_shards(sharding_type, hosts), width)


def shard_sizes(
    table: Shaped, sharding_type: ShardingType, hosts: Hosts, min_partition: int
) -> list[tuple[tuple[int, int], int]]:
    """Rows and columns of the shards of `cut` in their order, equal neighbours counted."""
    rows, columns = table.num_embeddings, table.embedding_dim
    if sharding_type == "data_parallel":
        return [((rows, columns), hosts.num_ranks)]
    width = shard_width(table, sharding_type, hosts, min_partition)
    num_shards = num_row_shards(sharding_type, hosts)
    if num_shards == 1:
        return [((rows, width), columns // width)]
    block = ceil(rows / num_shards)
    num_full, rest = divmod(rows, block)
    counted = [
        ((block, width), num_full),
        ((rest, width), 1 if rest else 0),
        ((0, width), num_shards - num_full - (1 if rest else 0)),
    ]
    return [(size, count) for size, count in counted if count] * (columns // width)


def can_cut(table: Shaped, sharding_type: ShardingType, hosts: Hosts) -> bool:
    """Whether every rank gets rows: an empty row shard makes CPU ranks crash or wait for ever."""
    last = num_row_shards(sharding_type, hosts) - 1
    return last * ceil(table.num_embeddings / (last + 1)) < table.num_embeddings


def home_size(sharding_type: ShardingType, hosts: Hosts) -> int:
    """Ranks that take shards of `cut` together: a host, all ranks, or just any one."""
    if sharding_type in HOST_TYPES:
        return hosts.local_size
    return hosts.num_ranks if sharding_type in ("row_wise", "data_parallel") else 1


def num_row_shards(sharding_type: ShardingType, hosts: Hosts) -> int:
    """Pieces that a table's rows are cut into."""
    match sharding_type:
        case "row_wise":
            return hosts.num_ranks
        case "table_row_wise" | "grid_shard":
            return hosts.local_size
        case _:
            return 1


def shard_width(
    table: Shaped, sharding_type: ShardingType, hosts: Hosts, min_partition: int
) -> int:
    """Columns of a shard."""
    match sharding_type:
        case "column_wise":
            return _narrowest(table, hosts.num_ranks, min_partition)
        case "table_column_wise":
            return _narrowest(table, hosts.local_size, min_partition)
        case "grid_shard":
            return _narrowest(table, hosts.num_ranks // hosts.local_size, min_partition)
        case _:
            return table.embedding_dim


def row_blocks(num_embeddings: int, num_shards: int) -> list[tuple[int, int]]:
    """Equal blocks of rows, the last ones shorter or empty: an id is in block ``id // length``."""
    block = ceil(num_embeddings / num_shards)
    starts = [min(index * block, num_embeddings) for index in range(num_shards + 1)]
    return list(pairwise(starts))


def _grid(table: Shaped, num_row_shards: int, width: int) -> list[Shard]:
    """Blocks of rows, under each other and side by side."""
    blocks = row_blocks(table.num_embeddings, num_row_shards)
    return [
        Shard(
            rank=0,
            num_rows=stop - start,
            num_columns=width,
            first_row=start,
            first_column=column,
        )
        for column in range(0, table.embedding_dim, width)
        for start, stop in blocks
    ]


def _narrowest(table: Shaped, most_shards: int, min_partition: int) -> int:
    """Narrowest width that kernels take, divides the table's, and needs no more shards."""
    lowest = max(min_partition, ceil(table.embedding_dim / most_shards))
    fitting = (
        width
        for width in range(WIDTH_STEP, table.embedding_dim, WIDTH_STEP)
        if width >= lowest and table.embedding_dim % width == 0
    )
    return next(fitting, table.embedding_dim)
