"""A process that imports torch once and then trains one run after the other."""

import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from models.tables import PlanError
from service.compare.figures import figures_of, widths_of
from service.compare.records import INFEASIBLE
from service.compare.spec import Rounded
from service.config import TrainConfig
from service.data.dataset import Split
from service.peak_memory import PeakMemory
from service.run_cost import own_cost
from service.run_folder import METRICS_FILE, RESULT_FILE, RunFolder, delete_whole, without_nan
from service.search.config import SearchConfig
from service.search.shared import SharedStages
from service.sizing import read_sizing, write_sizing
from service.sizing_request import SizingRequest, size_dataset
from service.stop import Stopped

if TYPE_CHECKING:
    from models.layers.linear import Matmul

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
    search: SearchConfig | None = None
    """How the plan is found, where that takes trainings of its own."""
    shared: SharedStages | None = None
    """Trainings that searches share."""
    groups: tuple[str, ...] = ()
    """The more of them two jobs have in common, the likelier one waits for a training of both."""
    slices: tuple[str, ...] = ()
    """Fields by whose frequency the best checkpoint is scored as well."""
    dtypes: tuple[Rounded, ...] = ()
    """What its tables are rounded to and scored again."""
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
    from service.supervisor import die_with_parent

    die_with_parent()  # whoever starts again takes up the run that is left
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
    """Train, score, tidy up; what went wrong is an answer too.

    Args:
        job: The run.
    """
    started = time.perf_counter()
    logger.info("run %s", job.config.output.name)
    try:
        outcome = _train(job)
    except PlanError as error:
        outcome = {"status": INFEASIBLE, "error": str(error)}
        delete_whole(job.config.output)
    except (ValueError, OSError) as error:  # what every verb expects, and says without a name
        traceback.print_exc()
        outcome = _failed(job, str(error))
    except Exception as error:  # an edge of the system: one run must not take the others along
        traceback.print_exc()
        outcome = _failed(job, f"{type(error).__name__}: {error}")
    if outcome is None:
        return STOPPED
    seconds = round(time.perf_counter() - started, 3)
    return outcome | {"seconds": seconds}


def _failed(job: Job, error: str) -> dict[str, Any]:
    if not job.keep:
        delete_whole(job.config.output)
    return {"status": "failed", "error": error}


def _train(job: Job) -> dict[str, Any] | None:
    job = _multiplying_alike(job)
    trained = _found(job) if job.search is not None else _planned(job)
    if trained is None:
        return None
    run, plan = trained
    outcome = {"status": "done", "error": None} | plan | _facts(RunFolder(run))
    if job.slices:
        outcome["slices"] = _sliced(job, run, outcome["split"])
    if job.dtypes:
        split = outcome["split"]
        outcome["served"] = {dtype: _served(job, run, split, dtype) for dtype in job.dtypes}
    if not job.keep:
        delete_whole(job.config.output)
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


def _multiplying_alike(job: Job) -> Job:
    """The same job with the routine that all runs of its comparison multiply with."""
    if job.matmul is None or job.config.matmul != "auto":
        return job
    matmul, search = agreed_matmul(job.matmul), job.search
    if search is not None:
        search = replace(search, train=replace(search.train, matmul=matmul))
    return replace(job, config=replace(job.config, matmul=matmul), search=search)


def _planned(job: Job) -> tuple[Path, dict[str, Any]] | None:
    """Train a plan that is known, or made of warm-ups; None where somebody said stop."""
    from service.train.loop import train

    if job.request is not None:
        write_sizing(size_dataset(job.config.data, job.request), job.config.sizing)
    peak = PeakMemory()
    if train(job.config).stopped_by:
        return None
    sizing = read_sizing(job.config.sizing)
    return job.config.output, {
        "widths": widths_of(sizing),
        "bytes": figures_of(sizing, job.config),
        "peak_memory_bytes": peak.total_bytes,
        "own_memory_bytes": peak.own_bytes,
    }


def _found(job: Job) -> tuple[Path, dict[str, Any]] | None:
    """Search, and train what was found; None where somebody said stop."""
    from service.search.run import SIZING_FILE, search

    assert job.search is not None
    try:
        record = search(job.search, lambda stage: logger.info("stage %s", stage.name), job.shared)
    except Stopped:
        return None
    assert record.run is not None  # it was asked to train what it finds
    write_sizing(read_sizing(job.config.output / SIZING_FILE), job.config.sizing)
    run = job.config.output / record.run
    trained = next(stage for stage in record.stages if stage["folder"] == run.name)
    return run, {
        "widths": record.widths,
        "bytes": record.figures,
        "search": record.cost,
        "stages": record.stages,
        "notes": record.notes,
        "peak_memory_bytes": trained["peak_memory_bytes"],
        "own_memory_bytes": trained["own_memory_bytes"],
    }


def _facts(folder: RunFolder) -> dict[str, Any]:
    """What a run's files say of it."""
    result = json.loads((folder.path / RESULT_FILE).read_text())
    cost = own_cost(folder.path)
    lines = [json.loads(line) for line in (folder.path / METRICS_FILE).read_text().splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    scores = result["scores"]
    best = next((line for line in validations if line["step"] == result["best_step"]), None)
    record = folder.read_run()
    return {
        "split": result["split"],
        "test": without_nan(scores),
        "validation": {k: v for k, v in best.items() if k in scores} if best else {},
        "steps": result["steps"],
        "best_step": result["best_step"],
        "epochs": max((line["epoch"] for line in validations), default=None),
        "examples_per_second": round(result["examples_per_second"], 1),
        "training": {"examples": cost.examples, "seconds": round(cost.seconds, 3)},
        "threads": record["threads"],
        "matmul": record["matmul"],
        "git_commit": record["git_commit"],
    }


def _sliced(job: Job, run: Path, split: Split) -> dict[str, Any]:
    from service.train.evaluate_run import EvaluateConfig, evaluate_run

    config = EvaluateConfig(run=run, split=split, device=job.config.device, slices=job.slices)
    return dict(without_nan(evaluate_run(config).slices))


def _served(job: Job, run: Path, split: Split, dtype: Rounded) -> dict[str, Any]:
    """Scores with rounded tables, and the bytes that they are served with."""
    from service.train.evaluate_run import EvaluateConfig, evaluate_run

    config = EvaluateConfig(run=run, split=split, device=job.config.device, dtype=dtype)
    try:
        served = evaluate_run(config).served
    except ValueError as error:  # what no export takes is no fault of the run
        return {"error": str(error)}
    assert served is not None
    return {"test": without_nan(served.scores), "serving_bytes": served.serving_bytes}


def _redirect(log: Path) -> None:
    """Send stdout and stderr, of C code too, to a file: the terminal belongs to the parent."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
