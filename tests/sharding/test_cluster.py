"""Descriptions of clusters and of allowed sharding refuse what cannot be."""

import pytest

from sharding.cluster import CLUSTERS, GIB, Cluster, local
from sharding.constraints import Kernel, ShardingConfig


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_named_cluster_has_room_for_tables(name: str) -> None:
    assert CLUSTERS[name]().table_bytes("fused") > 0.1 * GIB


def test_local_ranks_share_the_memory_of_the_machine() -> None:
    assert local(4).ddr_bytes == local(1).ddr_bytes // 4


def test_gpu_tables_live_in_device_memory_unless_asked_otherwise() -> None:
    cluster = Cluster(device="cuda", hbm_bytes=100, ddr_bytes=1000, reserve_ratio=0.5)
    assert (cluster.table_bytes("fused"), cluster.table_bytes("fused_uvm")) == (50, 500)


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


@pytest.mark.parametrize("kernel", ["fused_uvm", "fused_uvm_caching"])
def test_host_memory_tables_need_a_gpu(kernel: Kernel) -> None:
    with pytest.raises(ValueError, match=f"'{kernel}'.*device='cpu'; use kernel='fused'"):
        Cluster().table_bytes(kernel)


def test_a_cache_of_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cache_load_factor=0, expected in \(0, 1\]; try 0.2"):
        ShardingConfig(cache_load_factor=0)


def test_column_shards_must_suit_the_kernels() -> None:
    with pytest.raises(ValueError, match=r"min_partition=6.*try 8"):
        ShardingConfig(min_partition=6)


def test_some_type_must_be_allowed() -> None:
    with pytest.raises(ValueError, match="expected at least one of table_wise, row_wise"):
        ShardingConfig(types=())


@pytest.mark.parametrize("name", ["comms", "comms_backward"])
def test_int8_between_ranks_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=r"multiple of 8 .* cut by rows; use fp16 or bf16"):
        ShardingConfig(**{name: "int8"})  # type: ignore[arg-type]
