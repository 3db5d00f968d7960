"""Whether a placement that a person has edited is one that TorchRec can train.

TorchRec takes the shards of a plan on trust. Where they do not tile a table, or lie on other ranks
than its exchanges expect, it trains wrong rows, crashes or waits for ever.
"""

from collections.abc import Sequence
from dataclasses import replace

from models.tables import WIDTH_STEP
from sharding.constraints import KERNELS
from sharding.placement import (
    Placement,
    TablePlacement,
    can_cut,
    cut,
    home_size,
    num_row_shards,
    row_blocks,
)

_FREE_WIDTHS = ("column_wise", "table_column_wise", "grid_shard")
_FREE_RANKS = ("table_wise", "column_wise")


def with_shards(table: TablePlacement, placement: Placement) -> TablePlacement:
    """The table, cut evenly from rank 0 on where whoever edited the plan left its shards out."""
    if table.shards:
        return table
    shards = cut(table, table.sharding_type, placement, WIDTH_STEP)
    return replace(
        table, shards=tuple(replace(shard, rank=rank) for rank, shard in enumerate(shards))
    )


def check_placement(placement: Placement) -> None:
    """Refuse a placement whose kernels, shards or ranks are not what its sharding types mean.

    Raises:
        ValueError: Names the table, what it has, what was expected and what to do.
    """
    if placement.num_ranks < 1 or placement.num_ranks % placement.local_size:
        raise ValueError(
            f"num_ranks={placement.num_ranks} does not fill hosts of "
            f"ranks_per_host={placement.ranks_per_host}; use a multiple"
        )
    for table in placement.tables:
        _check_kernel(table, placement)
        _check_tiles(table, placement)
        _check_ranks(table, placement)


def _check_kernel(table: TablePlacement, placement: Placement) -> None:
    kind, on = table.sharding_type, placement.device
    fitting = ("dense",) if kind == "data_parallel" else KERNELS if on == "cuda" else ("fused",)
    if table.kernel not in fitting:
        raise ValueError(
            f"table {table.name!r}: kernel {table.kernel!r}, expected {' or '.join(fitting)} for "
            f"{kind} tables on {on}; edit its kernel, or plan again"
        )
    is_cached = table.kernel == "fused_uvm_caching"
    if is_cached and not 0 < (table.cache_load_factor or 0) <= 1:
        raise ValueError(
            f"table {table.name!r}: cache_load_factor={table.cache_load_factor}, expected in "
            f"(0, 1]; try 0.2"
        )


def _check_tiles(table: TablePlacement, placement: Placement) -> None:
    """Rows must be cut as TorchRec computes an id's rank; columns may be cut at any multiple."""
    kind = table.sharding_type
    if not can_cut(table, kind, placement):
        raise ValueError(
            f"table {table.name!r}: its {table.num_embeddings} rows cannot be cut {kind} over "
            f"{placement.num_ranks} ranks without an empty shard; make it table_wise"
        )
    blocks = row_blocks(table.num_embeddings, num_row_shards(kind, placement))
    if kind == "data_parallel":
        starts = [(0, table.embedding_dim)] * placement.num_ranks
    elif kind in _FREE_WIDTHS:
        starts = _columns([shard.num_columns for shard in table.shards[:: len(blocks)]])
    else:
        starts = [(0, table.embedding_dim)]
    expected = [
        (first_row, column, last_row - first_row, width)
        for column, width in starts
        for first_row, last_row in blocks
    ]
    actual = [(s.first_row, s.first_column, s.num_rows, s.num_columns) for s in table.shards]
    for index, (found, wanted) in enumerate(zip(actual, expected, strict=False)):
        if found != wanted:
            raise ValueError(
                f"table {table.name!r}: shard {index} of {kind} is {_rectangle(*found)}, expected "
                f"{_rectangle(*wanted)}; edit it, or leave out the table's shards to have it cut"
            )
        if wanted[3] < WIDTH_STEP or wanted[3] % WIDTH_STEP:
            raise ValueError(
                f"table {table.name!r}: shard {index} has num_columns={wanted[3]}, expected a "
                f"positive multiple of {WIDTH_STEP} (FBGEMM kernels)"
            )
    ends = starts[-1][0] + starts[-1][1] if starts else 0
    if len(actual) != len(expected) or ends != table.embedding_dim:
        raise ValueError(
            f"table {table.name!r}: its {len(actual)} {kind} shards end at column {ends}, expected "
            f"{len(expected)} up to column {table.embedding_dim}; add what is missing, or leave "
            f"out the table's shards to have it cut"
        )


def _columns(widths: Sequence[int]) -> list[tuple[int, int]]:
    """First column and width of shards that stand side by side."""
    return [(sum(widths[:index]), width) for index, width in enumerate(widths)]


def _rectangle(first_row: int, first_column: int, num_rows: int, num_columns: int) -> str:
    return f"{num_rows} x {num_columns} from row {first_row}, column {first_column}"


def _check_ranks(table: TablePlacement, placement: Placement) -> None:
    """Cuts by rows lie on all ranks, or all of a host, in their order; others are free."""
    ranks = [shard.rank for shard in table.shards]
    if wrong := [rank for rank in ranks if not 0 <= rank < placement.num_ranks]:
        raise ValueError(
            f"table {table.name!r}: a shard is on rank {wrong[0]}, but there are "
            f"num_ranks={placement.num_ranks} ranks; give it one from 0 to "
            f"{placement.num_ranks - 1}"
        )
    if table.sharding_type in _FREE_RANKS:
        return
    size = home_size(table.sharding_type, placement)
    for first in range(0, len(ranks), size):
        group = ranks[first : first + size]
        host = group[0] // size * size
        home = list(range(host, host + size))
        if table.sharding_type == "table_column_wise":
            is_right, wanted = set(group) <= set(home), f"all of {home}, those of one host"
        else:
            is_right, wanted = group == home, f"{home}, in this order"
        if not is_right:
            raise ValueError(
                f"table {table.name!r}: its {table.sharding_type} shards are on ranks {group}, "
                f"expected {wanted}; edit their ranks, or leave out the table's shards"
            )
