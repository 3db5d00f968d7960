"""Placements read from files are refused where TorchRec would train something else with them."""

from collections.abc import Sequence

import pytest

from sharding.cluster import Cluster
from sharding.constraints import SHARDING_TYPES, ShardingConfig, ShardingType
from sharding.cost import Workload
from sharding.placement import Placement, Shard, TablePlacement
from sharding.placing import place
from sharding.tiling import check_placement, with_shards
from tests.sharding.tables import table

CLUSTER = Cluster(num_ranks=4, ranks_per_host=2)


def check(*shards: Shard, kind: ShardingType, kernel: str = "fused", device: str = "cpu") -> None:
    placed = TablePlacement(
        name="a",
        num_embeddings=10,
        embedding_dim=16,
        sharding_type=kind,
        kernel=kernel,
        shards=shards,
    )
    check_placement(
        Placement(num_ranks=4, ranks_per_host=2, device=device, tables=(placed,))  # type: ignore[arg-type]
    )


def rows(ranks: Sequence[int], *sizes: int, width: int = 16, column: int = 0) -> list[Shard]:
    return [
        Shard(
            rank=rank,
            num_rows=size,
            num_columns=width,
            first_row=sum(sizes[:index]),
            first_column=column,
        )
        for index, (rank, size) in enumerate(zip(ranks, sizes, strict=True))
    ]


@pytest.mark.parametrize("kind", SHARDING_TYPES)
def test_what_the_planner_makes_is_accepted(kind: ShardingType) -> None:
    tables = [table("a", 10, 16), table("b", 1, 4), table("c", 7, 32)]
    config = ShardingConfig(types=(kind,))
    check_placement(place(tables, CLUSTER, config, Workload(batch_size=4)))


@pytest.mark.parametrize("kind", SHARDING_TYPES)
def test_a_table_whose_shards_are_left_out_is_cut_by_its_type(kind: ShardingType) -> None:
    kernel = "dense" if kind == "data_parallel" else "fused"
    bare = TablePlacement(
        name="a", num_embeddings=10, embedding_dim=16, sharding_type=kind, kernel=kernel
    )
    empty = Placement(num_ranks=4, ranks_per_host=2, device="cpu", tables=())
    check(*with_shards(bare, empty).shards, kind=kind, kernel=kernel)


@pytest.mark.parametrize(
    ("kind", "shards", "message"),
    [
        ("row_wise", rows([0, 1, 2, 3], 3, 3, 2, 2), "shard 2 of row_wise is 2 x 16 from row 6"),
        ("row_wise", rows([0, 1, 2], 3, 3, 3), "its 3 row_wise shards end .* expected 4 up to"),
        ("row_wise", rows([1, 0, 2, 3], 3, 3, 3, 1), r"on ranks \[1, 0, 2, 3\], expected \[0, 1,"),
        ("table_wise", rows([4], 10), "a shard is on rank 4, but there are num_ranks=4"),
        ("table_wise", rows([0], 9), "is 9 x 16 from row 0, column 0, expected 10 x 16"),
        ("column_wise", rows([0], 10, width=4), "its 1 column_wise shards end at column 4"),
        ("column_wise", rows([0], 10, width=6), "num_columns=6, expected a positive multiple of 4"),
        ("table_row_wise", rows([1, 2], 5, 5), r"ranks \[1, 2\], expected \[0, 1\], in this order"),
        (
            "table_column_wise",
            [*rows([1], 10, width=8), *rows([2], 10, width=8, column=8)],
            r"ranks \[1, 2\], expected all of \[0, 1\], those of one host",
        ),
        (
            "grid_shard",
            [*rows([0, 1], 5, 5, width=8), *rows([0, 2], 5, 5, width=8, column=8)],
            r"grid_shard shards are on ranks \[0, 2\], expected \[0, 1\]",
        ),
        (
            "grid_shard",
            [*rows([0, 1], 5, 5, width=8), *rows([2, 3], 4, 6, width=8, column=8)],
            "shard 2 of grid_shard is 4 x 8 from row 0, column 8, expected 5 x 8",
        ),
    ],
)
def test_shards_that_torchrec_would_look_for_elsewhere_are_refused(
    kind: ShardingType, shards: list[Shard], message: str
) -> None:
    with pytest.raises(ValueError, match=f"table 'a': .*{message}"):
        check(*shards, kind=kind)


def test_unequal_columns_on_any_ranks_are_fine() -> None:
    check(*rows([3], 10, width=4), *rows([3], 10, width=12, column=4), kind="column_wise")


@pytest.mark.parametrize(
    ("kernel", "device", "message"),
    [
        ("fused_uvm_caching", "cpu", "'fused_uvm_caching', expected fused for table_wise .* cpu"),
        ("dense", "cuda", "'dense', expected fused or fused_uvm or fused_uvm_caching"),
        ("fused_uvm_caching", "cuda", r"cache_load_factor=None, expected in \(0, 1\]; try 0.2"),
    ],
)
def test_kernels_that_the_device_lacks_are_refused(kernel: str, device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(*rows([0], 10), kind="table_wise", kernel=kernel, device=device)


def test_a_table_with_too_few_rows_for_its_type_is_refused() -> None:
    placed = TablePlacement(
        name="a", num_embeddings=5, embedding_dim=4, sharding_type="row_wise", kernel="fused"
    )
    with pytest.raises(ValueError, match="its 5 rows cannot be cut row_wise over 4 ranks"):
        check_placement(Placement(num_ranks=4, ranks_per_host=4, device="cpu", tables=(placed,)))


def test_two_tables_of_one_name_are_refused() -> None:
    placed = TablePlacement(
        name="a", num_embeddings=5, embedding_dim=4, sharding_type="table_wise", kernel="fused"
    )
    with pytest.raises(ValueError, match=r"tables \['a'\] are placed more than once"):
        Placement(num_ranks=1, ranks_per_host=1, device="cpu", tables=(placed, placed))
