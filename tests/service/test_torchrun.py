"""torchrun whose exit code says what became of its ranks, so that a scheduler can tell."""

import pytest

from service.torchrun import main


def ended(script: str) -> int:
    """Exit code of an agent whose only rank is a shell script."""
    return main(["--standalone", "--monitor-interval=0.1", "--no-python", "sh", "-c", script])


@pytest.mark.parametrize(
    ("script", "code"),
    # torchrun reads $$ as an escaped dollar sign
    [("exit 0", 0), ("exit 2", 2), ("exit 143", 143), ("kill -9 $$$$", 137)],
    ids=["done", "refused", "stopped", "killed"],
)
def test_the_agent_ends_the_way_its_rank_did(script: str, code: int) -> None:
    assert ended(script) == code


def test_an_agent_that_is_told_to_stop_says_so() -> None:
    assert ended("kill -TERM $PPID; sleep 20") == 143
