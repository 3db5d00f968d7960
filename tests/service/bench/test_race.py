"""The race: contenders in processes of their own, one clock and one score for all."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from service.bench import race
from service.bench.options import RaceOfPeersConfig
from service.bench.peers.environment import MARKER, environment
from service.bench.peers.task import Clock, RaceTask, TimeIsUp
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.readers.synthetic import Synthetic


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race") / "data"
    source = Synthetic(rows=6000, scale=0.001)
    prepare(PrepareConfig(source=source, output=folder, threads=1), lambda progress: None)
    return folder


def task(data: Path, **changes: object) -> RaceTask:
    whole = RaceTask(
        data=data,
        variant="default",
        network="deepfm",
        batch_size=100,
        dim=4,
        threads=1,
        seed=0,
        max_seconds=0.0,
        sizing=None,
        scores=None,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "variant"), [("loops", "stacked"), ("ours", "fp32")])
def test_a_contender_trains_an_epoch_and_is_scored(data: Path, module: str, variant: str) -> None:
    config = RaceOfPeersConfig(data=data, batch_size=100, threads=1)
    runner = race.Runner(Path(sys.executable), module, variant)
    figures = race._run(config, "deepfm", runner, 0)
    assert figures["trained_ratio"] == 1
    assert figures["examples_per_second"] > 0
    assert 0.6 < figures["auc"] < 1  # that it has learned, from the right rows
    assert figures["peak_rss_bytes"] > 1e7


def test_a_contender_that_fails_says_why(data: Path, tmp_path: Path) -> None:
    runner = race.Runner(Path(sys.executable), "loops", "stacked")
    config = RaceOfPeersConfig(data=tmp_path, threads=1)
    with pytest.raises(RuntimeError, match=r"(?s)contender loops ended .* No such file"):
        race._run(config, "deepfm", runner, 0)


def test_an_unknown_contender_is_refused(data: Path) -> None:
    config = RaceOfPeersConfig(data=data, only=("tensorflow",))
    with pytest.raises(ValueError, match=r"--only \['tensorflow'\]: no such contenders here"):
        race.run(config)


def test_rows_are_read_as_they_are_stored(data: Path) -> None:
    rows = task(data).read("test")
    table = pq.read_table(next((data / "test").iterdir()))
    assert list(rows.ids) == [name for name in table.column_names if name.startswith("C")]
    np.testing.assert_array_equal(rows.ids["C7"], table["C7"].to_numpy())
    np.testing.assert_array_equal(rows.dense["I2"], table["I2"].to_numpy())


def clock_of(data: Path, *seconds: float, **changes: object) -> Clock:
    """A clock that reads these seconds."""
    readings: Iterator[float] = iter(seconds)
    return Clock(task(data, **changes), now=lambda: next(readings))


def test_an_epoch_that_is_cut_off_goes_on_at_its_own_pace(data: Path) -> None:
    num_steps = task(data).num_rows / 100
    clock = clock_of(data, 10.0, 13.0, 13.5, 14.0, max_seconds=3.9)
    clock.step()
    clock.step()
    with pytest.raises(TimeIsUp):
        clock.step()
    figures = clock.figures()
    assert figures["first_step_seconds"] == 3
    expected = 3 + 0.5 * (num_steps - 1)
    assert figures["examples_per_second"] == pytest.approx(num_steps * 100 / expected)
    assert figures["trained_ratio"] == pytest.approx(3 / num_steps)


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    python = environment(tmp_path / "peer", ())
    assert python.is_file()
    first = (tmp_path / "peer" / MARKER).stat().st_mtime_ns
    assert environment(tmp_path / "peer", ()) == python
    assert (tmp_path / "peer" / MARKER).stat().st_mtime_ns == first


def test_what_cannot_be_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="pip install --quiet --no-index no-such-package"):
        environment(tmp_path / "peer", (("--no-index", "no-such-package"),))
    assert not (tmp_path / "peer" / MARKER).exists()
