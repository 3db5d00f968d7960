"""What becomes of a folder that a search overwrites, or begins in, and is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.tables import PlanError
from service.search.run import search
from tests.service.search.searches import make_search, run, within
from tests.service.warm_runs import make_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("searches")
    make_data(path / "data")
    return path


@pytest.mark.parametrize("num_moves", range(6))
def test_what_a_kill_has_left_of_an_old_search_can_be_overwritten(
    num_moves, folder, tmp_path, monkeypatch
):
    config = within(make_search(folder, "hash"), output=tmp_path / "found", max_steps=2)
    again = within(config, overwrite=True)
    record = run(config)
    moves, rename = iter(range(num_moves)), Path.rename

    def kill(path: Path, to: Path) -> Path:
        if next(moves, None) is None:
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", kill)
        run(again)
    assert run(again).test == record.test
    assert not (tmp_path / "found" / ".before").exists()


def test_a_folder_of_something_else_is_left_alone(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    config = within(make_search(folder, "random"), output=tmp_path)
    for changes in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ValueError, match="is not empty; give another --output"):
            run(within(config, **changes))


def test_a_search_that_is_refused_overwrites_nothing(folder, tmp_path):
    config = within(make_search(folder, "spectral"), output=tmp_path / "found", max_steps=2)
    record = run(config)
    files = sorted((tmp_path / "found").rglob("*"))
    with pytest.raises(PlanError, match="give --budget"):
        run(replace(within(config, overwrite=True), budget="64"))
    assert sorted((tmp_path / "found").rglob("*")) == files
    assert run(within(config, resume=True)).test == record.test


@pytest.mark.parametrize("error", [OSError("a port is taken"), ArithmeticError("diverged")])
def test_whatever_the_first_training_refuses_by_overwrites_nothing(
    error, folder, tmp_path, monkeypatch
):
    def refuse(*_: Any) -> Any:
        raise error

    config = within(make_search(folder, "hash"), output=tmp_path / "found", max_steps=2)
    run(config)
    files = sorted((tmp_path / "found").rglob("*"))
    monkeypatch.setattr("service.search.search.train_stage", refuse)
    with pytest.raises(type(error), match=str(error)):
        run(within(config, overwrite=True))
    assert sorted((tmp_path / "found").rglob("*")) == files


def test_what_is_overwritten_takes_no_disk_once_the_first_stage_has_ended(folder, tmp_path):
    config = within(make_search(folder, "spectral"), output=tmp_path / "found", max_steps=2)
    run(config)
    left: list[Path] = []
    search(
        within(config, overwrite=True),
        lambda stage: left.extend((tmp_path / "found").glob(".before*")),
    )
    assert not left


LATE = {"epochs": 2, "step_size": 0.1}
"""What the super-net of autodim refuses: kernels move its tables in their backward pass."""


def test_a_search_that_its_first_training_refuses_overwrites_nothing(folder, tmp_path):
    config = within(make_search(folder, "hash"), output=tmp_path / "found", max_steps=2)
    record = run(config)
    files = sorted((tmp_path / "found").rglob("*"))
    late = within(make_search(folder, "autodim", LATE), output=tmp_path / "found", overwrite=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="moves weights ahead and back"):
            run(late)
        assert sorted((tmp_path / "found").rglob("*")) == files
    assert run(within(config, resume=True)).test == record.test
    assert run(within(config, overwrite=True)).test == record.test
    assert sorted((tmp_path / "found").rglob("*")) == files, "and nothing of before is left"


def test_a_folder_is_free_again_once_the_first_training_has_refused(folder, tmp_path):
    late = within(make_search(folder, "autodim", LATE), output=tmp_path / "found")
    for _ in range(2):
        with pytest.raises(ValueError, match="moves weights ahead and back"):
            run(late)
    assert not (tmp_path / "found").exists()


def test_what_was_trained_before_a_refusal_is_there_to_go_on_from(folder, tmp_path, monkeypatch):
    def refuse(*_: Any) -> Any:
        raise ValueError("no more")

    config = within(make_search(folder, "spectral"), output=tmp_path / "found", max_steps=2)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="no more"):
        patch.setattr("service.search.search.Search.measure", refuse)
        run(config)
    assert (tmp_path / "found" / "stages" / "base.json").is_file()
    assert run(within(config, resume=True)).status == "done"


def test_what_lies_beside_a_refused_search_is_never_deleted(folder, tmp_path):
    config = within(make_search(folder, "random", budget="100"), output=tmp_path / "found")
    with pytest.raises(PlanError):
        run(config)
    (tmp_path / "found").mkdir()  # a search that is refused leaves none
    (tmp_path / "found" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        run(config)
    assert (tmp_path / "found" / "notes.txt").read_text() == "mine"
