"""A process that imports torch once and then trains one run after the other."""

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from service.compare.figures import figures_of, widths_of
from service.config import TrainConfig
from service.peak_memory import forget_peak_memory, peak_memory_bytes
from service.run_folder import METRICS_FILE, RunFolder, without_nan
from service.sizing import read_sizing, write_sizing
from service.sizing_request import SizingRequest, size_dataset

if TYPE_CHECKING:
    from models.layers.linear import Matmul
    from service.train.result import TrainResult

logger = logging.getLogger(__name__)

STOPPED: Final = "stopped"
"""What a worker answers when a run was told to stop: nothing to record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a worker needs to know of a run."""

    config: TrainConfig
    """With its own seed and output folder."""
    request: SizingRequest | None = None
    """What the plan is made from first; None where it is written already."""
    slices: tuple[str, ...] = ()
    """Fields by whose frequency the best checkpoint is scored as well."""
    keep: bool = False
    """Keep the run folder."""
    matmul: Path | None = None
    """File that says which routine the runs of a comparison multiply with, or will say so."""


def work(connection: Connection, log: Path, threads: int) -> None:
    """Answer jobs until the other end hangs up; the log gets everything that is said."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us when to stop
    _redirect(log)
    os.environ["OMP_NUM_THREADS"] = str(threads)

    import torch

    import service.train.evaluate_run
    import service.train.loop  # noqa: F401 - seconds once, and not in the time of the first run
    from service.allocator import keep_freed_memory
    from service.logs import configure_logs

    configure_logs()
    keep_freed_memory()
    torch.set_num_threads(threads)
    while True:
        try:
            job: Job = connection.recv()
            connection.send(answer(job))
        except (EOFError, OSError):  # the other end has hung up
            return


def answer(job: Job) -> dict[str, Any] | str:
    """Train, score, tidy up; what went wrong is an answer too."""
    started = time.perf_counter()
    logger.info("run %s", job.config.output.name)
    try:
        outcome = _train(job)
    except Exception as error:  # an edge of the system: one run must not take the others along
        traceback.print_exc()
        outcome = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        if not job.keep:
            shutil.rmtree(job.config.output, ignore_errors=True)
    if outcome is None:
        return STOPPED
    return outcome | {"seconds": round(time.perf_counter() - started, 3)}


def _train(job: Job) -> dict[str, Any] | None:
    from service.train.loop import train

    forget_peak_memory()
    folder = RunFolder(job.config.output)
    if job.request is not None:
        write_sizing(size_dataset(job.config.data, job.request), job.config.sizing)
    config = job.config
    if job.matmul is not None and config.matmul == "auto":
        config = replace(config, matmul=agreed_matmul(job.matmul))
    result = train(config)
    if result.stopped_by:
        return None
    sizing = read_sizing(job.config.sizing)
    plan = {"widths": widths_of(sizing), "bytes": figures_of(sizing, job.config)}
    outcome = {"status": "done", "error": None} | plan | _facts(folder, result)
    if job.slices:
        outcome["slices"] = _sliced(job)
    if not job.keep:
        shutil.rmtree(folder.path)
    return outcome


def agreed_matmul(file: Path) -> "Matmul":
    """The routine that all runs of a comparison multiply with; whoever asks first, measures.

    Two routines round differently: rows and seeds would differ by more than what is compared.
    """
    from models.layers.linear import set_matmul

    if not file.is_file():
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(set_matmul("auto"))
        with contextlib.suppress(FileExistsError):  # another worker has measured meanwhile
            file.hardlink_to(draft)
        draft.unlink()
    return cast("Matmul", file.read_text())


def _facts(folder: RunFolder, result: "TrainResult") -> dict[str, Any]:
    """What a run's files say of it."""
    lines = [json.loads(line) for line in (folder.path / METRICS_FILE).read_text().splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    best = next((line for line in validations if line["step"] == result.best_step), None)
    record = folder.read_run()
    return {
        "split": result.split,
        "test": without_nan(result.scores),
        "validation": {k: v for k, v in best.items() if k in result.scores} if best else {},
        "steps": result.steps,
        "best_step": result.best_step,
        "epochs": max((line["epoch"] for line in validations), default=None),
        "examples_per_second": round(result.examples_per_second, 1),
        "peak_memory_bytes": peak_memory_bytes(),
        "threads": record["threads"],
        "matmul": record["matmul"],
        "git_commit": record["git_commit"],
    }


def _sliced(job: Job) -> dict[str, Any]:
    from service.train.evaluate_run import EvaluateConfig, evaluate_run

    found = evaluate_run(
        EvaluateConfig(run=job.config.output, device=job.config.device, slices=job.slices)
    )
    return dict(without_nan(found.slices))


def _redirect(log: Path) -> None:
    """Send stdout and stderr, of C code too, to a file: the terminal belongs to the parent."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
