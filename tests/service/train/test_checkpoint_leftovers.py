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


def test_what_was_to_be_replaced_stays_until_its_successor_is_there(tmp_path):
    (tmp_path / "step-00000004.replaced").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["step-00000004.replaced"]
    (tmp_path / "step-00000004").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["step-00000004"]
