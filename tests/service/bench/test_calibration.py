"""`mixdim bench lookup --write-cluster`: real lookups, a cluster that the planner can read."""

from pathlib import Path

import pytest
import torch

from service.bench import lookup
from service.bench.calibration import WIDTHS, Group, measure
from service.bench.harness import RaceConfig
from service.bench.links import measure_links
from service.bench.options import LookupConfig
from service.sharding_file import find_cluster
from sharding.calibration import Lookup, predicted_seconds


def config(output: Path, **options: object) -> LookupConfig:
    once = RaceConfig(repeats=1, quiet_seconds=0)
    small = {"write_cluster": output, "calibration_mebibytes": (1,), "threads": 1, "race": once}
    return LookupConfig(**{**small, **options})  # type: ignore[arg-type]


def test_a_machine_is_measured_and_written_for_the_planner(tmp_path: Path) -> None:
    output = tmp_path / "machine.toml"
    report = lookup.run(config(output))
    cluster = find_cluster(str(output))
    assert "measured by `mixdim bench lookup`" in cluster.source
    assert 1e9 < cluster.memory_bytes_per_second <= cluster.cache_bytes_per_second
    names = {run.contender.rpartition("/")[2] for run in report.runs}
    assert {f"width {width}" for width in WIDTHS} <= names
    step = Lookup(shapes=((1000, 16),) * 16, num_ids=4096, seconds=1.0)
    assert 1e-5 < predicted_seconds(step, cluster) < 1


def test_many_ids_take_longer_than_few() -> None:
    torch.set_num_threads(1)
    few, many = (
        measure(Group(name="g", about="", shapes=((1000, 16),) * 4, num_ids=ids, kind="group"))
        for ids in (64, 65536)
    )
    assert many > 3 * few


@pytest.mark.dist
def test_ranks_exchange_at_a_speed_that_exists() -> None:
    assert 1e6 < measure_links(2) < 1e12


def test_one_rank_has_nobody_to_exchange_with() -> None:
    with pytest.raises(ValueError, match="num_ranks=1, expected at least 2"):
        measure_links(1)


def test_sizes_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"calibration_mebibytes=\(0,\), expected sizes"):
        config(tmp_path / "m.toml", calibration_mebibytes=(0,))
