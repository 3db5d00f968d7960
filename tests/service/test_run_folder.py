"""Whose run is in the folder: what a job that was started again takes up, and what it clears."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from service.config import TrainConfig
from service.run_folder import METRICS_FILE, RunFolder, delete_whole


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the second start of the job 'mine'."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")


def folder_of(job: str, path: Path) -> RunFolder:
    (path / "run.json").write_text(json.dumps({"job": job, "config": {}}))
    return RunFolder(path)


def test_one_training_at_a_time_writes_into_a_folder(tmp_path):
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with first.held():
        refused = pytest.raises(ValueError, match=r"another training writes into .*/run; wait")
        with refused, second.held():
            pass
    with second.held():
        assert second.path.is_dir()


def test_what_a_kill_leaves_of_a_deleted_folder_is_not_taken_for_a_run(tmp_path, monkeypatch):
    def kill(path: Path, **_: object) -> None:
        if path.exists():
            raise KeyboardInterrupt

    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        folder.mkdir()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("service.run_folder.shutil.rmtree", kill)
        delete_whole(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()  # the run is trained again
    delete_whole(tmp_path / "run")
    delete_whole(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_is_started_again_does_not_wait_for_its_dying_ranks(again, tmp_path):
    with RunFolder(tmp_path).held(), RunFolder(tmp_path).held():
        pass


@pytest.mark.parametrize("flags", [{}, {"overwrite": True}, {"resume": True}])
def test_a_job_that_is_started_again_goes_on_with_its_own_run(flags, again, tmp_path):
    config = TrainConfig(output=tmp_path, **flags)
    expected = replace(config, resume=True, overwrite=False)
    assert folder_of("mine", tmp_path).check(config) == expected


def test_before_it_has_a_run_of_its_own_it_goes_by_its_flags(again, tmp_path):
    config = TrainConfig(output=tmp_path, overwrite=True)
    assert folder_of("another", tmp_path).check(config) == config
    with pytest.raises(ValueError, match="is not empty; give --resume"):
        RunFolder(tmp_path).check(replace(config, overwrite=False))


def test_a_first_start_does_not_go_on_unasked(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    with pytest.raises(ValueError, match="is not empty; give --resume"):
        folder_of("mine", tmp_path).check(TrainConfig(output=tmp_path))


def test_a_file_that_was_being_written_does_not_put_a_folder_in_use(again, tmp_path):
    (tmp_path / ".run.json.draft").touch()
    config = TrainConfig(output=tmp_path)
    assert RunFolder(tmp_path).check(config) == config


def test_a_line_of_metrics_is_written_whole_or_not_at_all(tmp_path):
    """A limit on the size of files stands for the room that a disk has left."""
    folder, record = RunFolder(tmp_path), {"step": 1}
    folder.append_metrics(record)
    path = tmp_path / METRICS_FILE
    whole = path.read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * len(whole) + 3, limits[1]))
    try:
        folder.append_metrics(record)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left on device"):
                folder.append_metrics(record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == 2 * whole
