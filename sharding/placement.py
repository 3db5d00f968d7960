"""Where every table lives: shards, and how tables are cut into them. Plain data, free of torch."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import ClassVar, Literal

from pydantic import ConfigDict

from models.tables import WIDTH_STEP, Table
from sharding.cluster import Cluster
from sharding.constraints import ShardingType

_STRICT = ConfigDict(extra="forbid")


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
    shards: tuple[Shard, ...]
    """In the order of their offsets; for a data-parallel table one full copy a rank."""

    def __post_init__(self) -> None:
        if self.sharding_type == "data_parallel":
            for shard in self.shards:
                self._check(shard, first=(0, 0), size=(self.num_embeddings, self.embedding_dim))
            return
        row = column = 0
        for shard in self.shards:
            if self.sharding_type == "column_wise":
                size = self.num_embeddings, shard.num_columns
            else:
                size = shard.num_rows, self.embedding_dim
            self._check(shard, first=(row, column), size=size)
            if self.sharding_type == "column_wise":
                column += shard.num_columns
            else:
                row += shard.num_rows
        end = column if self.sharding_type == "column_wise" else row
        whole = self.embedding_dim if self.sharding_type == "column_wise" else self.num_embeddings
        if end != whole:
            raise ValueError(
                f"table {self.name!r}: its {self.sharding_type} shards end at {end}, expected "
                f"{whole}; plan the sharding again"
            )

    def _check(self, shard: Shard, first: tuple[int, int], size: tuple[int, int]) -> None:
        if (shard.first_row, shard.first_column) != first or shard.size != size:
            raise ValueError(
                f"table {self.name!r}: {shard} of {self.sharding_type} shards, expected "
                f"{size[0]} x {size[1]} from row {first[0]}, column {first[1]}; "
                f"plan the sharding again"
            )
        if shard.rank < 0 or min(shard.size) < 0:
            raise ValueError(f"table {self.name!r}: {shard} has a negative number; plan again")


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """A sharding plan: every table, on ``num_ranks`` ranks of one kind."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    num_ranks: int
    ranks_per_host: int
    device: Literal["cpu", "cuda"]
    tables: tuple[TablePlacement, ...]

    def __post_init__(self) -> None:
        counts = Counter(table.name for table in self.tables)
        if twice := sorted(name for name, count in counts.items() if count > 1):
            raise ValueError(f"tables {twice} are placed more than once; plan the sharding again")
        for table in self.tables:
            if (rank := max(shard.rank for shard in table.shards)) >= self.num_ranks:
                raise ValueError(
                    f"table {table.name!r}: a shard is on rank {rank}, but there are "
                    f"num_ranks={self.num_ranks} ranks; plan the sharding for this many ranks"
                )


def cut(
    table: Table, sharding_type: ShardingType, cluster: Cluster, min_partition: int
) -> list[Shard]:
    """Shards of a table in the shapes TorchRec expects, all still on rank 0."""
    match sharding_type:
        case "table_wise":
            return _cut_rows(table, 1)
        case "row_wise":
            return _cut_rows(table, cluster.num_ranks)
        case "table_row_wise":
            return _cut_rows(table, cluster.local_size)
        case "column_wise":
            return _cut_columns(table, _shard_width(table, cluster.num_ranks, min_partition))
        case "data_parallel":
            return _cut_rows(table, 1) * cluster.num_ranks


def shard_sizes(
    table: Table, sharding_type: ShardingType, cluster: Cluster, min_partition: int
) -> list[tuple[tuple[int, int], int]]:
    """Rows and columns of the shards of `cut` in their order, equal neighbours counted."""
    rows, columns = table.num_embeddings, table.embedding_dim
    match sharding_type:
        case "table_wise":
            return [((rows, columns), 1)]
        case "data_parallel":
            return [((rows, columns), cluster.num_ranks)]
        case "column_wise":
            width = _shard_width(table, cluster.num_ranks, min_partition)
            return [((rows, width), columns // width)]
    num_shards = _num_row_shards(sharding_type, cluster)
    block = ceil(rows / num_shards)
    num_full, rest = divmod(rows, block)
    counted = [
        ((block, columns), num_full),
        ((rest, columns), 1 if rest else 0),
        ((0, columns), num_shards - num_full - (1 if rest else 0)),
    ]
    return [(size, count) for size, count in counted if count]


def can_cut(table: Table, sharding_type: ShardingType, cluster: Cluster) -> bool:
    """Whether every rank gets rows: an empty row shard makes CPU ranks crash or wait for ever."""
    if sharding_type not in ("row_wise", "table_row_wise"):
        return True
    last = _num_row_shards(sharding_type, cluster) - 1
    return last * ceil(table.num_embeddings / (last + 1)) < table.num_embeddings


def home_size(sharding_type: ShardingType, cluster: Cluster) -> int:
    """Ranks that take shards of `cut` together: a host, all ranks, or just any one."""
    match sharding_type:
        case "table_wise" | "column_wise":
            return 1
        case "row_wise" | "data_parallel":
            return cluster.num_ranks
        case "table_row_wise":
            return cluster.local_size


def _num_row_shards(sharding_type: ShardingType, cluster: Cluster) -> int:
    return cluster.num_ranks if sharding_type == "row_wise" else cluster.local_size


def _cut_rows(table: Table, num_shards: int) -> list[Shard]:
    """Equal blocks, the last ones shorter or empty: an id's rank is ``id // block``."""
    block = ceil(table.num_embeddings / num_shards)
    starts = [min(index * block, table.num_embeddings) for index in range(num_shards + 1)]
    return [
        Shard(
            rank=0,
            num_rows=stop - start,
            num_columns=table.embedding_dim,
            first_row=start,
        )
        for start, stop in pairwise(starts)
    ]


def _cut_columns(table: Table, width: int) -> list[Shard]:
    return [
        Shard(
            rank=0,
            num_rows=table.num_embeddings,
            num_columns=width,
            first_column=first,
        )
        for first in range(0, table.embedding_dim, width)
    ]


def _shard_width(table: Table, num_ranks: int, min_partition: int) -> int:
    """Narrowest width that kernels take, divides the table's, and needs no more than all ranks."""
    lowest = max(min_partition, ceil(table.embedding_dim / num_ranks))
    fitting = (
        width
        for width in range(WIDTH_STEP, table.embedding_dim, WIDTH_STEP)
        if width >= lowest and table.embedding_dim % width == 0
    )
    return next(fitting, table.embedding_dim)
