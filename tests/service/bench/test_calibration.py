"""`mixdim bench lookup --write-cluster`: real lookups, a cluster that the planner can read."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from service.bench import calibration, lookup
from service.bench.calibration import WIDTHS, Group, measure
from service.bench.harness import RaceConfig
from service.bench.links import measure_links
from service.bench.options import LookupConfig
from service.sharding_file import find_cluster
from sharding.calibration import Lookup, predicted_seconds
from sharding.cluster import local


def config(output: Path, **options: object) -> LookupConfig:
    once = RaceConfig(repeats=1, quiet_seconds=0)
    small = {"write_cluster": output, "calibration_mebibytes": (1,), "threads": 1, "race": once}
    return LookupConfig(**{**small, **options})  # type: ignore[arg-type]


def test_what_is_measured_is_fitted_and_written_for_the_planner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_round", timed_by_the_model)
    monkeypatch.setattr(calibration, "measure_links", lambda _: 5e9)
    output = tmp_path / "machine.toml"
    report = lookup.run(config(output))
    cluster = find_cluster(str(output))
    assert "measured by `mixdim bench lookup`" in cluster.source
    names = {run.contender.rpartition("/")[2] for run in report.runs}
    assert {f"width {width}" for width in WIDTHS} <= names
    for rows in (1000, 100_000):
        step = Lookup(shapes=((rows, 16),) * 16, num_ids=4096, seconds=1.0)
        assert predicted_seconds(step, cluster) == pytest.approx(
            predicted_seconds(step, local(1)), rel=0.15
        )


def timed_by_the_model(
    _: LookupConfig, groups: Sequence[Group], number: int
) -> tuple[dict[str, float], float]:
    """A machine that takes exactly what the planner thinks, whatever its neighbours do."""
    steps = {g.name: Lookup(shapes=g.shapes, num_ids=g.num_ids, seconds=1.0) for g in groups}
    return {name: predicted_seconds(step, local(1)) for name, step in steps.items()}, float(number)


def test_a_round_times_every_group_in_a_process_of_its_own() -> None:
    groups = [
        Group(name=f"width {width}", about="", shapes=((100, width),), num_ids=64, kind="single")
        for width in (4, 8)
    ]
    seconds, foreign_ratio = calibration._round(config(Path("m.toml")), groups, 0)
    assert set(seconds) == {"width 4", "width 8"}
    assert all(0 < value < 1 for value in seconds.values())
    assert foreign_ratio >= 0


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
