"""Processes that train runs side by side; importing torch is paid once a process."""

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from service.compare.worker import STOPPED, Job, work

STOP_SECONDS: Final = 20.0
"""Time that a worker has to write its checkpoint and end."""


@dataclass(kw_only=True, slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    job: str | None = None
    """Name of the run it is busy with."""


def run_all(
    jobs: Mapping[str, Job], *, num_workers: int, threads: int, logs: Path
) -> Generator[tuple[str, dict[str, Any]]]:
    """Train every job and yield its name and outcome as soon as it is there.

    A worker that dies takes its run along, which counts as failed, and is replaced. When the
    caller stops iterating, or is interrupted, workers are told to stop, and leave a checkpoint.

    Args:
        jobs: What to train, by name, in the order to start in.
        num_workers: Runs at a time.
        threads: Threads of a run.
        logs: Folder of one log a worker.
    """
    waiting = list(jobs)
    workers: list[_Worker] = []
    try:
        for index in range(min(num_workers, len(jobs))):
            workers.append(_start(logs / f"worker-{index}.log", threads))
            _hand_out(workers[-1], workers, waiting, jobs)
        while any(worker.job is not None for worker in workers):
            for index in _ready(workers):
                worker = workers[index]
                name, outcome = worker.job, _outcome(worker)
                if not worker.process.is_alive() and waiting:
                    worker = workers[index] = _start(logs / f"worker-{index}.log", threads)
                _hand_out(worker, workers, waiting, jobs)
                if name is not None and outcome is not None:
                    yield name, outcome
    finally:
        _stop(workers)


def _start(log: Path, threads: int) -> _Worker:
    # Spawned, not forked: a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, log, threads), daemon=True)
    with _environment("OMP_NUM_THREADS", str(threads)):  # read when libraries are loaded
        process.start()
    theirs.close()
    return _Worker(process=process, connection=ours)


def _hand_out(
    worker: _Worker, workers: list[_Worker], waiting: list[str], jobs: Mapping[str, Job]
) -> None:
    """Give a worker the first of the jobs that are the least likely to wait for another."""
    others = (other.job for other in workers if other is not worker)
    busy = {group for name in others if name is not None for group in jobs[name].groups}
    worker.job = min(waiting, key=lambda name: len(busy & {*jobs[name].groups}), default=None)
    if worker.job is not None:
        waiting.remove(worker.job)
        worker.connection.send(jobs[worker.job])


def _ready(workers: list[_Worker]) -> list[int]:
    """Workers that have answered, or died, while they had a job."""
    busy = [worker for worker in workers if worker.job is not None]
    ready = wait([worker.connection for worker in busy])
    return [index for index, worker in enumerate(workers) if worker.connection in ready]


def _outcome(worker: _Worker) -> dict[str, Any] | None:
    """What a worker says of its run, or how it died; None where the run was stopped."""
    try:
        outcome = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        cause = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return {
            "status": "failed",
            "error": f"the worker process was ended {cause}; its log may say why",
            "seconds": 0.0,
        }
    return None if outcome == STOPPED else outcome


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.job is not None:
            worker.process.terminate()  # a training takes note and leaves a checkpoint
        worker.connection.close()  # an idle worker ends
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
