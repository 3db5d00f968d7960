"""Placements: complete, balanced, deterministic, and refused with the number that would do."""

import re
from collections import Counter
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrec.distributed.sharding_plan import calculate_shard_sizes_and_offsets

from models.sizing.budget import table_bytes
from models.sizing.serving import Serving
from models.tables import PlanError, SparseOptimizer, Table
from sharding.cluster import CLUSTERS, GIB, Cluster
from sharding.constraints import SHARDING_TYPES, ShardingConfig, ShardingType
from sharding.cost import Workload, whole_bytes
from sharding.placement import can_cut, cut
from sharding.placing import place
from sharding.report import report
from tests.sharding.tables import table

WORKLOAD = Workload(batch_size=64)
ROOMY = Cluster(num_ranks=4, ranks_per_host=2, ddr_bytes=GIB)


def many_tables(count: int) -> list[Table]:
    """Criteo-like: rows over six orders of magnitude, widths from 4 to 128."""
    random = np.random.default_rng(0)
    rows = 10 ** random.uniform(0.5, 6.5, count)
    widths = random.choice([4, 8, 16, 32, 64, 128], count)
    shapes = zip(rows, widths, strict=True)
    return [table(f"t{i}", int(n), int(d)) for i, (n, d) in enumerate(shapes)]


table_sets = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(1, 16).map(lambda d: 4 * d)),
    min_size=1,
    max_size=12,
).map(lambda shapes: [table(f"t{i}", *shape) for i, shape in enumerate(shapes)])
clusters = st.builds(
    lambda hosts, per_host: replace(ROOMY, num_ranks=hosts * per_host, ranks_per_host=per_host),
    st.integers(1, 3),
    st.integers(1, 4),
)
type_sets = st.lists(st.sampled_from(SHARDING_TYPES), min_size=1, unique=True).map(tuple)


@given(tables=table_sets, cluster=clusters, types=type_sets, memory=st.integers(14, 24))
@settings(max_examples=150)
def test_shards_tile_every_table_once_and_fit(
    tables: list[Table], cluster: Cluster, types: tuple[ShardingType, ...], memory: int
) -> None:
    cluster = replace(cluster, ddr_bytes=2**memory)
    try:
        placement = place(tables, cluster, ShardingConfig(types=types), WORKLOAD)
    except PlanError as refusal:
        assert refusal.needed_bytes > cluster.ddr_bytes
        return
    assert [placed.name for placed in placement.tables] == [x.name for x in tables]
    for placed in placement.tables:
        cells = np.zeros((placed.num_embeddings, placed.embedding_dim), int)
        for s in placed.shards:
            rows = slice(s.first_row, s.first_row + s.num_rows)
            cells[rows, s.first_column : s.first_column + s.num_columns] += 1
            assert s.num_columns % 4 == 0 and s.num_rows
        copies = cluster.num_ranks if placed.sharding_type == "data_parallel" else 1
        assert (cells == copies).all()
    held = [rank.bytes for rank in report(placement, cluster, WORKLOAD).ranks]
    assert max(held) <= cluster.table_bytes("fused")


@given(
    x=table_sets.map(lambda tables: tables[0]),
    cluster=clusters,
    kind=st.sampled_from(SHARDING_TYPES),
)
def test_shapes_of_shards_are_torchrecs(x: Table, cluster: Cluster, kind: ShardingType) -> None:
    shards = cut(x, kind, cluster, min_partition=4)
    sizes, offsets = calculate_shard_sizes_and_offsets(
        torch.empty(x.num_embeddings, x.embedding_dim, device="meta"),
        world_size=cluster.num_ranks,
        local_world_size=cluster.local_size,
        sharding_type=kind,
        col_wise_shard_dim=max(s.num_columns for s in shards),
    )
    assert [list(s.size) for s in shards] == sizes
    if can_cut(x, kind, cluster):
        assert [[s.first_row, s.first_column] for s in shards] == offsets


def test_a_thousand_tables_on_64_ranks_take_seconds() -> None:
    cluster = replace(CLUSTERS["a100x8"](), num_ranks=64)
    start = perf_counter()
    placement = place(many_tables(1000), cluster, ShardingConfig(), WORKLOAD)
    assert perf_counter() - start < 5
    assert report(placement, cluster, WORKLOAD).time_imbalance_ratio < 1.05


@pytest.mark.parametrize("num_ranks", [2, 8])
def test_ranks_get_equal_work(num_ranks: int) -> None:
    cluster = replace(ROOMY, num_ranks=num_ranks, ddr_bytes=64 * GIB)
    figures = report(
        place(many_tables(200), cluster, ShardingConfig(), WORKLOAD), cluster, WORKLOAD
    )
    assert figures.time_imbalance_ratio < 1.05


def test_equally_wide_tables_are_balanced_in_bytes_too() -> None:
    tables = [replace(x, embedding_dim=16) for x in many_tables(200)]
    cluster = replace(ROOMY, num_ranks=8, ranks_per_host=8, ddr_bytes=64 * GIB)
    figures = report(place(tables, cluster, ShardingConfig(), WORKLOAD), cluster, WORKLOAD)
    assert figures.imbalance_ratio < 1.25
    assert figures.time_imbalance_ratio < 1.05


def test_tables_stay_whole_while_they_fit() -> None:
    for num_ranks in (1, 2, 4, 8):
        cluster = replace(ROOMY, num_ranks=num_ranks, ddr_bytes=64 * GIB)
        placement = place(many_tables(50), cluster, ShardingConfig(), WORKLOAD)
        assert {x.sharding_type for x in placement.tables} == {"table_wise"}


def test_only_the_largest_tables_are_cut_when_memory_is_short() -> None:
    cluster = Cluster(num_ranks=4, ddr_bytes=2**20, reserve_ratio=0)
    tables = [table("large", 50_000, 8), table("small", 100, 8), table("tiny", 3, 8)]
    placement = place(tables, cluster, ShardingConfig(), WORKLOAD)
    kinds = [x.sharding_type for x in placement.tables]
    assert kinds == ["row_wise", "table_wise", "table_wise"]


def test_order_of_tables_does_not_change_their_places() -> None:
    tables = many_tables(100)
    config = ShardingConfig(types=("column_wise", "row_wise"))
    there = place(tables, ROOMY_LARGE, config, WORKLOAD)
    back = place(tables[::-1], ROOMY_LARGE, config, WORKLOAD)
    assert set(there.tables) == set(back.tables)


ROOMY_LARGE = replace(ROOMY, ddr_bytes=64 * GIB)


@pytest.mark.parametrize("types", [("table_wise",), ("row_wise",), ("column_wise",)], ids=str)
def test_the_memory_a_refusal_names_would_do(types: tuple[ShardingType, ...]) -> None:
    cluster = Cluster(num_ranks=4, ddr_bytes=10_000_000)
    tables, config = many_tables(30), ShardingConfig(types=types)
    with pytest.raises(PlanError, match="give every rank") as refusal:
        place(tables, cluster, config, WORKLOAD)
    needed = refusal.value.needed_bytes
    assert place(tables, replace(cluster, ddr_bytes=needed), config, WORKLOAD)
    with pytest.raises(PlanError):
        place(tables, replace(cluster, ddr_bytes=int(needed * 0.97)), config, WORKLOAD)


def test_a_refusal_names_the_table_and_ranks_that_would_do() -> None:
    cluster = Cluster(num_ranks=2, ranks_per_host=2, ddr_bytes=2**20, reserve_ratio=0)
    tables, config = [table("huge", 100_000, 8), table("b", 5, 4)], ShardingConfig()
    with pytest.raises(PlanError, match=r"'huge' needs 1\.7 MiB .*use 4 ranks") as refusal:
        place(tables, cluster, config, WORKLOAD)
    assert refusal.value.table == "huge"
    assert place(tables, replace(cluster, num_ranks=4), config, WORKLOAD)


def test_the_budget_a_refusal_names_would_do() -> None:
    cluster = Cluster(num_ranks=4, ddr_bytes=10_000_000)
    tables = many_tables(30)
    with pytest.raises(PlanError, match="mixdim size --budget") as refusal:
        place(tables, cluster, ShardingConfig(), WORKLOAD)
    budget = int(re.search(r"--budget (\d+)", str(refusal.value))[1])
    whole = sum(whole_bytes(x, WORKLOAD.optimizer) for x in tables)
    scaled = [
        replace(x, num_embeddings=max(1, int(x.num_embeddings * budget / whole))) for x in tables
    ]
    assert 0.9 * 34_000_000 < budget < 34_000_000  # 4 ranks of 8.5 MB, below the reserve
    assert place(scaled, cluster, ShardingConfig(), WORKLOAD)


def test_a_type_named_twice_is_tried_once() -> None:
    cluster = Cluster(num_ranks=2, ddr_bytes=2**20, reserve_ratio=0)
    config = ShardingConfig(types=("table_wise", "table_wise", "row_wise"))
    tables = [table("a", 25_000, 8), table("b", 25_000, 8), table("c", 5_000, 8)]
    assert place(tables, cluster, config, WORKLOAD)


def test_a_refusal_offers_rows_only_where_they_help() -> None:
    cluster = Cluster(num_ranks=4, ddr_bytes=2**20, reserve_ratio=0)
    with pytest.raises(PlanError, match="allow row_wise sharding"):
        place([table("a", 50_000, 8)], cluster, ShardingConfig(types=("table_wise",)), WORKLOAD)


def test_dense_layers_and_the_reserve_take_room_from_tables() -> None:
    cluster = Cluster(ddr_bytes=2_000_000, reserve_ratio=0.5)
    tables = [table("a", 10_000, 16)]  # 680,000 bytes with its state
    assert place(tables, cluster, ShardingConfig(), WORKLOAD)
    with pytest.raises(PlanError):
        place(tables, cluster, ShardingConfig(), replace(WORKLOAD, dense_bytes=330_000))


def test_each_table_may_have_its_own_type() -> None:
    config = ShardingConfig(tables={"t1": "row_wise", "t2": "column_wise", "t3": "data_parallel"})
    placement = place(many_tables(5), ROOMY_LARGE, config, WORKLOAD)
    kinds = [x.sharding_type for x in placement.tables]
    assert kinds == ["table_wise", "row_wise", "column_wise", "data_parallel", "table_wise"]
    assert placement.tables[3].kernel == "dense"


def test_tables_of_few_rows_are_copied_where_there_is_somebody_to_copy_for() -> None:
    tables = [table("few", 100, 8), table("many", 101, 8), table("own", 100, 8)]
    config = ShardingConfig(max_copied_rows=100, tables={"own": "row_wise"})
    kinds = [x.sharding_type for x in place(tables, ROOMY, config, WORKLOAD).tables]
    assert kinds == ["data_parallel", "table_wise", "row_wise"]
    alone = place(tables[:2], replace(ROOMY, num_ranks=1), replace(config, tables={}), WORKLOAD)
    assert {x.sharding_type for x in alone.tables} == {"table_wise"}


def test_tables_with_fewer_rows_than_ranks_stay_whole() -> None:
    placement = place([table("a", 3, 8)], ROOMY, ShardingConfig(types=("row_wise",)), WORKLOAD)
    assert placement.tables[0].sharding_type == "table_wise"


def test_an_override_that_would_leave_a_rank_empty_is_refused() -> None:
    config = ShardingConfig(tables={"a": "row_wise"})
    with pytest.raises(ValueError, match="'a': its 5 rows cannot be cut row_wise over 4 ranks"):
        place([table("a", 5, 8)], ROOMY, config, WORKLOAD)


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "sgd", "adagrad"])
def test_bytes_of_whole_tables_are_those_of_the_sizing(optimizer: SparseOptimizer) -> None:
    tables, workload = many_tables(10), replace(WORKLOAD, optimizer=optimizer)
    figures = report(place(tables, ROOMY_LARGE, ShardingConfig(), workload), ROOMY_LARGE, workload)
    assert figures.bytes == sum(table_bytes(x, 0, optimizer, Serving()).total for x in tables)


@pytest.mark.parametrize(("optimizer", "floats"), [("adam", 4), ("amsgrad", 5)])
def test_copies_of_unfused_optimizers_hold_weight_gradient_and_moments(
    optimizer: SparseOptimizer, floats: int
) -> None:
    workload = replace(WORKLOAD, optimizer=optimizer)
    placement = place([table("a", 100, 8)], ROOMY, ShardingConfig(), workload)
    assert placement.tables[0].sharding_type == "data_parallel"
    ranks = report(placement, ROOMY, workload).ranks
    assert [rank.bytes for rank in ranks] == [100 * 8 * 4 * floats] * 4


def test_cutting_by_rows_multiplies_traffic_by_the_ranks() -> None:
    def sent(kind: ShardingType) -> int:
        placement = place([table("a", 1000, 16)], ROOMY, ShardingConfig(types=(kind,)), WORKLOAD)
        return sum(x.sent_bytes_per_step for x in report(placement, ROOMY, WORKLOAD).ranks)

    assert sent("table_wise") == 64 * 3 * 16 * 4  # batch x other ranks x columns x bytes
    assert sent("column_wise") == sent("table_wise")
    assert sent("row_wise") == 4 * sent("table_wise")


def test_the_report_counts_tables_and_shards_by_rank() -> None:
    config = ShardingConfig(types=("row_wise",))
    placement = place([table("a", 100, 8), table("b", 1, 8)], ROOMY, config, WORKLOAD)
    ranks = report(placement, ROOMY, WORKLOAD).ranks
    assert Counter(x.num_tables for x in ranks) == {1: 3, 2: 1}


def test_no_tables_cannot_be_placed() -> None:
    with pytest.raises(ValueError, match="no tables to place"):
        place([], ROOMY, ShardingConfig(), WORKLOAD)


def test_two_tables_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\['a'\] occur more than once"):
        place([table("a", 3, 4), table("a", 4, 4)], ROOMY, ShardingConfig(), WORKLOAD)


def test_an_override_of_an_unknown_table_is_refused() -> None:
    config = ShardingConfig(tables={"c": "row_wise"})
    with pytest.raises(ValueError, match=r"\['c'\] do not exist; tables: a"):
        place([table("a", 3, 4)], ROOMY, config, WORKLOAD)
