"""Checkpoints are whole, or known not to be; a training outlives one that cannot be written."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.config import TrainConfig
from service.distributed import launch
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from service.train.report import Reporter
from tests.service.train.resumes import Shape
from tests.service.train.runs import make_run
from tests.service.train.saved import flip_a_bit, save_and_damage


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


DAMAGES = {
    "a flipped bit": ("__0_0.distcp", flip_a_bit, "another checksum"),
    "a truncated file": ("__0_0.distcp", truncate, "bytes instead of"),
    "a missing file": ("progress.json", Path.unlink, "progress.json is missing"),
    "a torn manifest": ("manifest.json", truncate, "manifest.json cannot be read"),
}


def checkpoints_of(config: TrainConfig) -> list[str]:
    return sorted(path.name for path in (config.output / "checkpoints").iterdir())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_loudly(damage, tmp_path, capsys):
    config = make_run(tmp_path, max_steps=20, checkpoint_every=8)
    expected = launch(train, config, nproc=1, name="whole")
    name, harm, reason = DAMAGES[damage]
    harm(config.output / "checkpoints" / "step-00000020" / name)
    again = launch(train, replace(config, resume=True), nproc=1, name="again")
    assert again.scores == expected.scores
    assert reason in again.warnings[0]
    assert "step-00000020 is damaged" in capsys.readouterr().err
    assert checkpoints_of(config) == ["step-00000016", "step-00000020", "step-00000020.damaged"]


def test_without_a_whole_checkpoint_nothing_is_trained(tmp_path):
    config = make_run(tmp_path, max_steps=2)
    launch(train, config, nproc=1, name="whole")
    flip_a_bit(config.output / "checkpoints" / "step-00000002" / ".metadata")
    with pytest.raises(ValueError, match=r"holds no whole checkpoint \(step-00000002: .metadata"):
        launch(train, replace(config, resume=True), nproc=1, name="again")


def test_the_newest_takes_the_place_of_a_damaged_best(tmp_path):
    config = make_run(tmp_path, max_steps=20, validate_every=10, patience=9)
    launch(train, config, nproc=1, name="whole")
    folder = config.output / "checkpoints"
    progress = json.loads((folder / "step-00000020" / "progress.json").read_text())
    assert progress["best_step"] == 20
    flip_a_bit(folder / "step-00000020" / "progress.json")
    found = evaluate_run(EvaluateConfig(run=config.output, device="cpu"))
    assert found.checkpoint == "step-00000010"


def test_a_checkpoint_explains_itself(tmp_path):
    config = make_run(tmp_path, max_steps=2)
    launch(train, config, nproc=1, name="run")
    folder = config.output / "checkpoints" / "step-00000002"
    assert (folder / "sizing.json").read_text() == config.sizing.read_text()
    assert (folder / "sharding.json").read_text() == (config.output / "sharding.json").read_text()
    assert set(json.loads((folder / "manifest.json").read_text())["files"]) == {
        path.name for path in folder.iterdir() if path.name != "manifest.json"
    }


@pytest.mark.dist
@pytest.mark.parametrize("nproc", [1, 2])
def test_ranks_write_what_was_and_agree_on_what_is_whole(nproc, tmp_path):
    shape = Shape(nproc=nproc, kind="row_wise", optimizer="adagrad")
    outcomes = launch(save_and_damage, make_run(tmp_path), shape, nproc=nproc, name="saved")
    for outcome in outcomes:
        assert outcome.sums_loaded == outcome.sums_at_rest
        assert outcome.drawn_again == outcome.drawn
        assert outcome.chosen == ["step-00000002", "step-00000001", "step-00000001"]
        assert "another checksum" in outcome.problems[0]
        assert "holds no whole checkpoint" in outcome.problems[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that one checkpoint and the ballast fill."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("beside", [True, False])
def test_a_full_disk_costs_a_checkpoint_and_not_the_training(
    beside, small_disk, tmp_path, monkeypatch, capsys
):
    config = make_run(tmp_path, max_steps=24, checkpoint_every=8, checkpoint_async=beside)
    config = replace(config, resume=True, keep_checkpoints=1)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(480 << 10))

    class Cleaner(Reporter):
        def end_step(self, progress, loss, loader):
            super().end_step(progress, loss, loader)
            # Beside the training it is known at some later step, which one is the machine's affair.
            if self.metrics.checkpoint_failures._value.get() and ballast.exists():
                assert progress.step >= 8
                assert [path.name for path in small_disk.iterdir()] == ["ballast"]
                ballast.unlink()

    with monkeypatch.context() as patch:
        patch.setattr("service.train.loop.Reporter", Cleaner)
        launch(train, config, nproc=1, name="full")
    assert not ballast.exists()
    assert "step-00000008 could not be written" in capsys.readouterr().err
    assert checkpoints_of(config) == ["step-00000024"]


@pytest.mark.parametrize("beside", [True, False])
def test_a_last_checkpoint_that_cannot_be_written_is_an_error(beside, small_disk, tmp_path):
    config = make_run(tmp_path, max_steps=8, checkpoint_every=0, checkpoint_async=beside)
    (small_disk / "ballast").write_bytes(bytes(480 << 10))
    with pytest.raises(OSError, match=r"step-00000008 could not be written: .*make room"):
        launch(train, replace(config, resume=True), nproc=1, name="full")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_metrics_that_find_no_room_are_counted_and_cost_no_step(tmp_path, monkeypatch, capsys):
    """`/dev/full` is a disk without room."""
    config = make_run(tmp_path, max_steps=15, resume=True)
    counts = []

    class Counting(Reporter):
        def __exit__(self, *error):
            counts.append(self.metrics.lost_metrics._value.get())
            super().__exit__(*error)

    monkeypatch.setattr("service.train.loop.Reporter", Counting)
    monkeypatch.setattr("service.run_folder.METRICS_FILE", "/dev/full")
    assert launch(train, config, nproc=1, name="no-room").steps == 15
    assert counts == [3 + 2]  # lines of the log, and two evaluations
    assert capsys.readouterr().err.count("metrics are lost: [Errno 28] No space left") == 1
