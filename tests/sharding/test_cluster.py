"""Descriptions of clusters and of allowed sharding refuse what cannot be."""

import pytest

from sharding.cluster import CLUSTERS, GIB, Cluster, local
from sharding.constraints import ShardingConfig


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_named_cluster_has_room_for_tables(name: str) -> None:
    assert CLUSTERS[name]().table_bytes("fused") > 0.1 * GIB


def test_local_ranks_share_the_memory_of_the_machine() -> None:
    assert local(4).ddr_bytes == local(1).ddr_bytes // 4


def test_gpu_tables_live_in_device_memory_unless_asked_otherwise() -> None:
    cluster = Cluster(device="cuda", hbm_bytes=100, ddr_bytes=1000, reserve_ratio=0.5)
    assert (cluster.table_bytes("fused"), cluster.table_bytes("fused_uvm")) == (50, 500)


def test_exchange_among_hosts_runs_at_the_speed_of_the_network() -> None:
    one_host = Cluster(num_ranks=4, ranks_per_host=4, intra_host_bytes_per_second=9)
    assert one_host.link_bytes_per_second == 9
    two = Cluster(num_ranks=8, ranks_per_host=4, inter_host_bytes_per_second=3)
    assert two.link_bytes_per_second == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_ranks": 0}, "num_ranks=0, expected at least 1"),
        ({"num_ranks": 12}, "num_ranks=12 does not fill hosts of ranks_per_host=8"),
        ({"reserve_ratio": 1.0}, "reserve_ratio=1.0, expected in"),
        ({"device": "cuda"}, "hbm_bytes=0"),
        ({"memory_bytes_per_second": 0}, "memory_bytes_per_second=0, expected a positive"),
    ],
)
def test_impossible_clusters_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cluster(**changes)  # type: ignore[arg-type]


def test_host_memory_tables_need_a_gpu() -> None:
    with pytest.raises(ValueError, match=r"fused_uvm.*device='cpu'; use kernel='fused'"):
        Cluster().table_bytes("fused_uvm")


def test_column_shards_must_suit_the_kernels() -> None:
    with pytest.raises(ValueError, match=r"min_partition=6.*try 8"):
        ShardingConfig(min_partition=6)


def test_some_type_must_be_allowed() -> None:
    with pytest.raises(ValueError, match="expected at least one of table_wise, row_wise"):
        ShardingConfig(types=())
