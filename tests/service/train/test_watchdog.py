"""A rank that hangs: all stacks are written, the rank behind is named, and the job ends."""

import logging
import multiprocessing
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service.config import TrainConfig
from service.distributed import joined_ranks, launch
from service.job import EXIT_HUNG, JobError
from service.train.loop import train
from service.train.watchdog import Watchdog
from tests.service.train.runs import make_run


def sleeping_train(config: TrainConfig, rank: str) -> object:
    """Train, while a rank's loader sleeps, or the rank as a whole is stopped."""
    from service.data.loader import Loader

    log = logging.FileHandler(config.output.parent / f"log-{os.environ['RANK']}")
    logging.getLogger("service.train.watchdog").addHandler(log)
    read = Loader.batches

    def batches(self, epoch=0, *, first_batch=0):
        for number, batch in enumerate(read(self, epoch, first_batch=first_batch)):
            if number == 12 and os.environ["RANK"] == rank.removeprefix("-"):
                if rank.startswith("-"):
                    os.kill(os.getpid(), signal.SIGSTOP)
                else:
                    time.sleep(600)
            yield batch

    Loader.batches = batches
    return train(config)


def lines_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("log-*"))


@pytest.mark.dist
@pytest.mark.parametrize("rank", ["1", "-0"], ids=["asleep", "stopped"])
def test_a_rank_that_hangs_is_named_and_ends_the_job(rank: str, tmp_path: Path) -> None:
    config = make_run(tmp_path, nproc=2, batch_size=64, hang_timeout=6.0)
    with pytest.raises(JobError, match="the ranks made no progress") as ended:
        launch(sleeping_train, config, rank, nproc=2, name="hangs", max_restarts=3)
    assert ended.value.exit_code == EXIT_HUNG
    stacks = [(config.output / f"stacks-rank{number}.txt").read_text() for number in (0, 1)]
    assert all("in _train_epoch" in text and "Thread" in text for text in stacks)
    log = lines_of(tmp_path)
    assert log.count(" is behind: step ") == 1
    assert f"rank {rank.removeprefix('-')} is behind: step " in log
    assert rank == "-0" or "is behind: step 10, waiting for data for" in log
    assert log.count("no progress for 6 s; stacks are in") == 1


def suspended_train(config: TrainConfig) -> None:
    """Train, and be suspended meanwhile, for longer than any of the watchdog's clocks."""
    from service.data.loader import Loader
    from service.train import watchdog

    watchdog.ANSWER_SECONDS, watchdog.PATIENT = 0.5, 1
    read = Loader.batches

    def batches(self, epoch=0, *, first_batch=0):
        for number, batch in enumerate(read(self, epoch, first_batch=first_batch)):
            if number == 3:
                subprocess.Popen(["sh", "-c", f"sleep 9; kill -CONT {os.getpid()}"])
                os.kill(os.getpid(), signal.SIGSTOP)
            yield batch

    Loader.batches = batches
    train(config)


def test_a_training_that_was_suspended_goes_on(tmp_path: Path) -> None:
    config = make_run(tmp_path, batch_size=64, epochs=1, hang_timeout=6.0)
    process = multiprocessing.get_context("spawn").Process(target=suspended_train, args=(config,))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    assert (config.output / "result.json").is_file()
    assert not list(config.output.glob("stacks*"))


def test_a_clock_that_is_set_forward_is_no_hang(tmp_path: Path, monkeypatch) -> None:
    with joined_ranks("cpu") as ranks:
        watchdog = Watchdog(ranks, tmp_path, seconds=600.0)
        monkeypatch.setattr(time, "time", lambda: 1e12)
        assert watchdog.idle_seconds() < 60
        watchdog.beat("training", 1)
        assert watchdog.idle_seconds() < 60


def test_a_training_that_goes_on_leaves_no_stacks(tmp_path: Path) -> None:
    config = make_run(tmp_path, max_steps=3, hang_timeout=0.5)
    launch(train, config, nproc=1, name="quick")
    launch(train, replace(config, resume=True, hang_timeout=0.0), nproc=1, name="unwatched")
    assert not list(config.output.glob("stacks*"))
