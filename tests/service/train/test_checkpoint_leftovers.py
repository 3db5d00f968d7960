"""A checkpoint that is being removed when the run is killed does not look like a whole one."""

import shutil

import pytest

from service.checkpoint.choice import finished
from service.checkpoint.write import _publish, remove_leftovers


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_half_a_removed_checkpoint_has_no_name(tmp_path, monkeypatch):
    for step in (1, 2, 3):
        (tmp_path / f"step-0000000{step}").mkdir()
        (tmp_path / f"step-0000000{step}" / "manifest.json").touch()
    (tmp_path / "step-00000004.unfinished").mkdir()

    def killed(path, **options):
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        _publish(tmp_path / "step-00000004.unfinished", tmp_path / "step-00000004", best=3, keep=1)
    whole = [f"step-0000000{step}" for step in (2, 3, 4)]
    assert [path.name for path in finished(tmp_path)] == whole
    assert names(tmp_path) == ["step-00000001.unfinished", *whole]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == whole


def test_copies_under_other_names_are_neither_taken_nor_removed(tmp_path):
    theirs = ["step-00000009.backup", "step-00000009-best", "step-old"]
    for name in ("step-00000001", "step-00000002.unfinished", *theirs):
        (tmp_path / name).mkdir()
    _publish(tmp_path / "step-00000002.unfinished", tmp_path / "step-00000002", best=-1, keep=1)
    assert [path.name for path in finished(tmp_path)] == ["step-00000002"]
    assert names(tmp_path) == sorted(["step-00000002", *theirs])


def test_checkpoints_are_in_the_order_of_their_steps_however_many_digits_these_have(tmp_path):
    for name in ("step-100000000", "step-99999999", "step-99999999.replaced"):
        (tmp_path / name).mkdir()
    found = [path.name for path in finished(tmp_path)]
    assert found == ["step-99999999.replaced", "step-99999999", "step-100000000"]


def test_what_was_to_be_replaced_stays_until_its_successor_is_there(tmp_path):
    (tmp_path / "step-00000004.replaced").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["step-00000004.replaced"]
    (tmp_path / "step-00000004").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["step-00000004"]
