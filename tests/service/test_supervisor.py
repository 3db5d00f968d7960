"""Ranks that are lost are started again; ranks that refuse, or are told to stop, are not."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.tables import PlanError
from service.distributed import joined_ranks, launch
from service.job import JobError, job_id, num_restarts
from service.stop import Stopped

pytestmark = pytest.mark.dist


def start(entry: Callable[..., object], *arguments: object, max_restarts: int = 3) -> object:
    return launch(entry, *arguments, nproc=2, name="test", max_restarts=max_restarts)


def noted(folder: Path) -> list[int]:
    """Starts of the job, as its first rank has written them down."""
    with joined_ranks("cpu") as ranks:
        if ranks.is_first:
            (folder / f"{num_restarts()}-{job_id()}").touch()
        if ranks.rank == 1 and num_restarts() < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return [int(rank) for rank in ranks.gather(ranks.rank)]


def test_a_killed_rank_is_started_again_with_all_others(tmp_path):
    before = set(Path("/tmp").glob("*elastic*")) | set(Path("/tmp").glob("pytorch-errorfile*"))
    assert start(noted, tmp_path) == [0, 1]
    starts = sorted(path.name.split("-", 1) for path in tmp_path.iterdir())
    assert [number for number, _ in starts] == ["0", "1", "2"]
    assert len({job for _, job in starts}) == 1, "all starts are one job"
    after = set(Path("/tmp").glob("*elastic*")) | set(Path("/tmp").glob("pytorch-errorfile*"))
    assert after <= before, "the agent leaves no files"


def test_restarts_are_used_up_and_then_the_loss_is_named(tmp_path):
    with pytest.raises(JobError, match=r"rank 1 was .* after 1 restart.*go on with --resume"):
        start(noted, tmp_path, max_restarts=1)


def refuse(folder: Path, error: Exception) -> None:
    with joined_ranks("cpu") as ranks:
        (folder / f"{ranks.rank}-{num_restarts()}").touch()
        if ranks.rank == 1:
            raise error
        ranks.gather(0)  # waits for the rank that has refused


@pytest.mark.parametrize(
    "error",
    [
        ValueError("seven", "is too many"),
        PlanError("too large", needed_bytes=8, table="C1"),
        FileNotFoundError(2, "No such file", "part-0.parquet"),
        FloatingPointError("not a number"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_one_rank_refuses_is_raised_as_it_is_and_not_tried_again(error, tmp_path):
    with pytest.raises(type(error)) as caught:
        start(refuse, tmp_path, error)
    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)
    assert {path.name for path in tmp_path.iterdir()} == {"0-0", "1-0"}


def fail(message: object) -> None:
    with joined_ranks("cpu"):
        raise KeyError(message)


def test_a_bug_is_shown_with_its_place_and_not_tried_again():
    shown = r"(?s)rank \d failed.*in fail.*KeyError: 'x{999}"
    with pytest.raises(RuntimeError, match=shown) as error:
        start(fail, "x" * 100_000)
    assert len(str(error.value)) < 100_000, "a message has to fit into a pipe"


def sleep(folder: Path) -> None:
    with joined_ranks("cpu") as ranks:
        (folder / str(os.getpid())).touch()
        ranks.gather(0)
        time.sleep(600)


def test_a_signal_ends_ranks_that_do_not_listen(tmp_path):
    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Stopped) as stopped:
        start(sleep, tmp_path)
    assert stopped.value.signal == signal.SIGTERM
    assert not any(Path(f"/proc/{path.name}").exists() for path in tmp_path.iterdir())


def test_ranks_end_when_their_launcher_is_killed(tmp_path):
    launcher = multiprocessing.get_context("spawn").Process(target=start, args=(sleep, tmp_path))
    launcher.start()
    deadline = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.kill()
    launcher.join()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{path.name}").exists() for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline, "a rank has outlived its launcher"
        time.sleep(0.05)


def stop_at_the_end() -> int:
    """Finish, and have one rank no longer answer the agent that sees it off."""
    with joined_ranks("cpu") as ranks:
        rank = ranks.rank
    if rank == 1:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGSTOP)).start()
    else:
        time.sleep(2)
    return rank


def test_a_rank_that_is_lost_after_it_has_finished_does_not_hang_the_job():
    assert start(stop_at_the_end) == 0
