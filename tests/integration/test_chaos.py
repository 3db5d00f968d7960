"""A few of the runs of `tests.chaos`; the command has a hundred."""

import pytest

from tests.chaos import Chaos

# Checkpoints are compared by this process, which is no rank; torch remarks on that.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Chaos:
    return Chaos(tmp_path_factory.mktemp("chaos"))


@pytest.mark.dist
@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_killed_anywhere_changes_nothing(number: int, chaos: Chaos) -> None:
    outcome = chaos.run(number)
    assert outcome.strikes
    assert outcome.faults == ()


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("number", [5, 7])
def test_a_launcher_killed_anywhere_changes_nothing(number: int, chaos: Chaos) -> None:
    outcome = chaos.run(number)
    assert [strike.victim for strike in outcome.strikes] == ["launcher"]
    assert outcome.faults == ()
