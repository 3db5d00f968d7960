"""Bytes, traffic and seconds of every sharding type on two hosts, computed by hand."""

from dataclasses import replace

import pytest

from models.tables import PlanError
from sharding.cluster import GIB, Cluster
from sharding.constraints import ShardingConfig, ShardingType
from sharding.cost import Workload
from sharding.placing import place
from sharding.report import PlanReport, report
from tests.sharding.tables import table

# Two hosts of two ranks. One table of 10 rows and 16 columns, rows of 64 bytes and row-wise
# Adagrad's 4 more a row and column shard; 100 examples a rank, one id each.
TWO_HOSTS = Cluster(
    num_ranks=4,
    ranks_per_host=2,
    ddr_bytes=GIB,
    memory_bytes_per_second=1.0,
    intra_host_bytes_per_second=1000.0,
    inter_host_bytes_per_second=10.0,
)
WORKLOAD = Workload(batch_size=100)
WHOLE = 100 * 16 * 4
"""Bytes of the pooled vectors of one rank's examples."""


def planned(kind: ShardingType) -> PlanReport:
    config = ShardingConfig(types=(kind,))
    return report(place([table("a", 10, 16)], TWO_HOSTS, config, WORKLOAD), TWO_HOSTS, WORKLOAD)


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("table_wise", [680]),
        ("row_wise", [204, 204, 204, 68]),  # 3, 3, 3 and 1 rows
        ("table_row_wise", [340, 340]),
        ("column_wise", [200, 200, 200, 200]),  # 4 columns of 10 rows, and 10 sums
        ("table_column_wise", [360, 360]),
        ("grid_shard", [180, 180, 180, 180]),  # 5 rows of 8 columns, and 5 sums
        ("data_parallel", [1320] * 4),  # a dense gradient besides
    ],
)
def test_bytes_of_every_rank(kind: ShardingType, held: list[int]) -> None:
    found = sorted((rank.bytes for rank in planned(kind).ranks), reverse=True)
    assert found == held + [0] * (4 - len(held))


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("table_wise", [3 * WHOLE, 0, 0, 0]),
        ("row_wise", [3 * WHOLE] * 4),
        # All examples' sums: half of those of 4 ranks to the neighbour, 1 of the 2 ranks' on.
        ("table_row_wise", [3 * WHOLE, 3 * WHOLE, 0, 0]),
        ("column_wise", [3 * WHOLE // 4] * 4),
        ("table_column_wise", [3 * WHOLE // 2] * 2 + [0, 0]),
        ("grid_shard", [3 * WHOLE // 2] * 4),
        ("data_parallel", [0] * 4),
    ],
)
def test_vectors_that_every_rank_sends(kind: ShardingType, sent: list[int]) -> None:
    ranks = planned(kind).ranks
    assert sorted((rank.sent_bytes_per_step for rank in ranks), reverse=True) == sent


@pytest.mark.parametrize(
    ("kind", "near", "far"),
    [
        # Vectors forth and back; 4 bytes of each bag and 4 of each id that other ranks have.
        ("table_wise", 2 * WHOLE + 800, 2 * 2 * WHOLE + 1600),
        ("row_wise", 2 * WHOLE + 400 + 120, 2 * 2 * WHOLE + 800 + 240),  # 3 of 10 rows
        ("table_row_wise", 2 * 2 * WHOLE + 400 + 200, 2 * WHOLE + 800 + 400),
        ("column_wise", 2 * WHOLE // 4 + 800, 2 * 2 * WHOLE // 4 + 1600),
        ("table_column_wise", 2 * WHOLE // 2 + 800, 2 * 2 * WHOLE // 2 + 1600),
        ("grid_shard", 2 * 2 * WHOLE // 2 + 400 + 200, 2 * WHOLE // 2 + 800 + 400),
        ("data_parallel", 0, 2 * 640 * 3 / 4),  # all-reduce of 640 bytes of gradients
    ],
)
def test_seconds_on_the_links_of_a_host_and_between_hosts(
    kind: ShardingType, near: float, far: float
) -> None:
    busiest = max(rank.exchange_seconds_per_step for rank in planned(kind).ranks)
    assert busiest == pytest.approx(near / 1000 + far / 10)


def test_numbers_of_two_bytes_halve_what_they_are_used_for() -> None:
    placement = place([table("a", 10, 16)], TWO_HOSTS, ShardingConfig(), WORKLOAD)
    full, forward, both = (
        report(placement, TWO_HOSTS, workload).ranks[0]
        for workload in (
            WORKLOAD,
            replace(WORKLOAD, comms="fp16"),
            replace(WORKLOAD, comms="bf16", gradient_comms="fp16"),
        )
    )
    assert forward.sent_bytes_per_step * 2 == both.sent_bytes_per_step * 2
    assert forward.sent_bytes_per_step * 2 == full.sent_bytes_per_step == 3 * WHOLE
    saved = [full.exchange_seconds_per_step - x.exchange_seconds_per_step for x in (forward, both)]
    one_way = WHOLE / 2 / 1000 + 2 * WHOLE / 2 / 10
    assert saved == pytest.approx([one_way, 2 * one_way])


def test_cutting_by_rows_within_hosts_spares_the_network() -> None:
    over_all, within = planned("row_wise"), planned("table_row_wise")
    assert max(r.exchange_seconds_per_step for r in within.ranks) < 0.6 * max(
        r.exchange_seconds_per_step for r in over_all.ranks
    )


def test_columns_of_a_host_go_to_its_idlest_ranks() -> None:
    config = ShardingConfig(tables={"b": "table_column_wise"})
    eight = replace(TWO_HOSTS, num_ranks=8, ranks_per_host=8)
    tables = [table("a", 10, 16), table("b", 10, 8)]
    placed = place(tables, eight, config, WORKLOAD).tables
    (whole,) = (shard.rank for shard in placed[0].shards)
    assert whole not in {shard.rank for shard in placed[1].shards}


CACHING = ShardingConfig(kernel="fused_uvm_caching", cache_load_factor=0.5)
GPUS = Cluster(device="cuda", hbm_bytes=100_000, ddr_bytes=10_000_000, reserve_ratio=0)


def test_a_cache_takes_device_memory_as_wide_as_the_widest_row() -> None:
    tables = [table("a", 200, 16), table("b", 57, 4)]
    (rank,) = report(place(tables, GPUS, CACHING, WORKLOAD), GPUS, WORKLOAD).ranks
    assert rank.bytes == 200 * 68 + 57 * 20  # in host memory, all of it
    # 128 of 257 rows, in sets of 32; a key and a time a slot, a table's number a row
    assert rank.cache_bytes == 128 * (16 * 4 + 16) + 257 * 4


def test_a_cache_that_does_not_fit_on_the_device_is_refused_with_what_would() -> None:
    tables = [table("a", 4000, 16)]  # 2000 slots of 80 bytes, and 16,000 more
    with pytest.raises(
        PlanError, match="of host memory, and device memory in proportion"
    ) as refusal:
        place(tables, GPUS, CACHING, WORKLOAD)
    times = refusal.value.needed_bytes / GPUS.ddr_bytes
    assert 1.7 < times < 1.9
    larger = replace(GPUS, hbm_bytes=int(times * 100_000), ddr_bytes=refusal.value.needed_bytes)
    assert place(tables, larger, CACHING, WORKLOAD)
    smaller = replace(CACHING, cache_load_factor=0.2)
    assert place(tables, GPUS, smaller, WORKLOAD).tables[0].cache_load_factor == 0.2


def test_tables_of_both_memories_are_placed_where_each_has_room() -> None:
    """Device: 100,000 bytes a rank; three tables of 68,000 would take two ranks, and one is all."""
    tables = [table(name, 1000, 16) for name in "abc"]
    with pytest.raises(PlanError, match="3 tables need"):
        place(tables, GPUS, ShardingConfig(), WORKLOAD)
    config = ShardingConfig(kernels={"b": "fused_uvm", "c": "fused_uvm_caching"})
    placed = {t.name: t for t in place(tables, GPUS, config, WORKLOAD).tables}
    assert [placed[name].kernel for name in "abc"] == ["fused", "fused_uvm", "fused_uvm_caching"]
    assert [placed[name].cache_load_factor for name in "abc"] == [None, None, 0.2]
    half = replace(config, cache_load_factor=0.5)  # 512 slots of 80 bytes and 4,000 more
    with pytest.raises(PlanError, match="of host memory, and device memory in proportion"):
        place(tables, GPUS, half, WORKLOAD)


def test_two_ranks_share_what_each_memory_holds() -> None:
    tables = [table(name, 1000, 16) for name in "abcd"]
    config = ShardingConfig(kernels=dict.fromkeys("cd", "fused_uvm"))
    two = replace(GPUS, num_ranks=2, ranks_per_host=2, ddr_bytes=70_000)
    ranks = [t.shards[0].rank for t in place(tables, two, config, WORKLOAD).tables]
    assert sorted(ranks[:2]) == sorted(ranks[2:]) == [0, 1]
    with pytest.raises(PlanError, match=r"use 4 ranks"):
        place(
            [*tables, table("e", 1000, 16)],
            two,
            replace(config, kernels=dict.fromkeys("cde", "fused_uvm")),
            WORKLOAD,
        )


def test_a_kernel_of_a_table_that_is_none_is_refused() -> None:
    config = ShardingConfig(kernels={"x": "fused_uvm"})
    with pytest.raises(ValueError, match=r"tables \['x'\] do not exist; tables: a"):
        place([table("a", 10, 16)], GPUS, config, WORKLOAD)
    with pytest.raises(ValueError, match="planner='greedy': TorchRec's planner is asked"):
        replace(config, planner="greedy")
    with pytest.raises(ValueError, match="cluster's device='cpu'; use kernel='fused'"):
        cpu = replace(GPUS, device="cpu")
        place([table("a", 10, 16)], cpu, replace(config, kernels={"a": "fused_uvm"}), WORKLOAD)
