"""Every known bad input ends soon, in a message with the place and the fix, and loses nothing."""

import shutil

import pytest

from tests.bad_inputs.table import BAD_INPUTS
from tests.bad_inputs.world import outcome_of, write_run, write_world

LONGEST_SECONDS = 60


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    write_run(folder)
    return folder


def test_there_are_fifty_at_least_and_each_is_another():
    assert len({bad.name for bad in BAD_INPUTS}) == len(BAD_INPUTS) >= 50


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_a_bad_input_is_explained_and_loses_nothing(bad, world, tmp_path):
    folder = tmp_path / "world"
    shutil.copytree(world, folder, ignore=None if bad.needs_run else shutil.ignore_patterns("run"))
    outcome = outcome_of(bad, folder)
    assert [part for part in bad.says if part not in outcome.message] == [], outcome.message
    assert outcome.code == bad.code
    assert outcome.lost == []
    assert "Traceback" not in outcome.message
    assert outcome.seconds < LONGEST_SECONDS
