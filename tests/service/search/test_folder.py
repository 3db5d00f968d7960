"""The folder of a search: whatever is killed or refused, no search is lost that has a result."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.search.folder import SearchFolder
from service.search.record import SEARCH_FILE

A, B = "the first search", "the second"


@dataclass
class Name:
    """Stands for a record."""

    text: str


@pytest.fixture(autouse=True)
def _records_are_names(monkeypatch):
    monkeypatch.setattr(
        "service.search.folder.write_record",
        lambda record, folder: (folder / SEARCH_FILE).write_text(record.text),
    )


def finished(path: Path) -> dict[str, str]:
    """Make the folder of a search that has ended; its files."""
    (path / "stages/base/checkpoints/step-1").mkdir(parents=True)
    for name in (SEARCH_FILE, "sizing.json", "stages/base.json", "plans.json"):
        (path / name).write_text(A)
    return files(path)


def files(path: Path) -> dict[str, str]:
    return {str(p.relative_to(path)): p.read_text() for p in path.rglob("*") if p.is_file()}


def overwriting(path: Path) -> SearchFolder:
    """What every start does first."""
    folder = SearchFolder(path, overwrites=True)
    folder.tidy()
    assert folder.is_ours
    return folder


def train(path: Path) -> None:
    (path / "stages/base/checkpoints/step-1").mkdir(parents=True)


def killed_after(num: int, monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> bool:
    """Do something in which every change of the disk may be the last; whether it was killed."""
    left = iter(range(num))

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changes(*args: Any, **kwargs: Any) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return change(*args, **kwargs)

        return changes

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (Path, "rmdir")):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        try:
            do()
        except KeyboardInterrupt:
            return True
    return False


def take_and_give_back(path: Path) -> None:
    folder = overwriting(path)
    folder.take(Name(B))
    (path / "sizing.json").write_text(B)
    folder.give_back()


@pytest.mark.parametrize("num", range(20))
def test_a_kill_at_any_change_and_a_refusal_after_it_lose_nothing(num, tmp_path, monkeypatch):
    before = finished(tmp_path)
    killed = killed_after(num, monkeypatch, lambda: take_and_give_back(tmp_path))
    take_and_give_back(tmp_path)
    assert files(tmp_path) == before
    assert not list(tmp_path.glob(".before*"))
    if num == 19:
        assert not killed, "all changes were killed in one of the cases"


@pytest.mark.parametrize("num", range(10))
def test_a_kill_before_the_new_record_is_there_leaves_the_old_search_to_resume(
    num, tmp_path, monkeypatch
):
    before = finished(tmp_path)
    folder = overwriting(tmp_path)
    killed_after(num, monkeypatch, lambda: folder.take(Name(B)))
    SearchFolder(tmp_path, overwrites=False).tidy()
    if (tmp_path / SEARCH_FILE).is_file() and (tmp_path / SEARCH_FILE).read_text() == A:
        assert files(tmp_path) == before
    else:
        assert files(tmp_path / ".before") == before


def test_what_has_trained_is_not_given_up_for_what_was_there_before(tmp_path):
    finished(tmp_path)
    overwriting(tmp_path).take(Name(B))
    train(tmp_path)  # and is killed
    third = overwriting(tmp_path)
    third.take(Name("the third"))
    third.give_back()
    assert files(tmp_path) == {SEARCH_FILE: B}
    assert (tmp_path / "stages/base/checkpoints/step-1").is_dir()


def test_once_something_was_trained_what_was_there_before_goes(tmp_path):
    finished(tmp_path)
    folder = overwriting(tmp_path)
    folder.take(Name(B))
    train(tmp_path)
    folder.give_back()
    assert (tmp_path / SEARCH_FILE).read_text() == B
    folder.settle()
    assert files(tmp_path) == {SEARCH_FILE: B}
    assert not list(tmp_path.glob(".before*"))


def test_of_what_was_let_go_no_half_comes_back(tmp_path, monkeypatch):
    def half(path: Path) -> None:
        (path / "sizing.json").unlink()
        raise KeyboardInterrupt

    finished(tmp_path)
    folder = overwriting(tmp_path)
    folder.take(Name(B))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", half)
        folder.settle()  # as the end of a search that has trained nothing does
    take_and_give_back(tmp_path)
    assert files(tmp_path) == {SEARCH_FILE: B}
    assert not list(tmp_path.glob(".before*"))


def test_a_resumed_search_that_is_refused_keeps_what_it_has_found(tmp_path):
    (tmp_path / SEARCH_FILE).write_text(A)
    (tmp_path / "sizing.json").write_text(A)
    folder = SearchFolder(tmp_path, overwrites=False)
    folder.tidy()
    folder.take(Name(A))
    folder.give_back()
    assert files(tmp_path) == {SEARCH_FILE: A, "sizing.json": A}


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_folder_of_somebody_else_is_no_search_s(is_folder, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / ".before").mkdir() if is_folder else (tmp_path / ".before").write_text("")
    folder = SearchFolder(tmp_path, overwrites=True)
    folder.tidy()
    assert not folder.is_ours
