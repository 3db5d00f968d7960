"""Checkpoints: `torch.distributed.checkpoint` folders that are whole or not there.

    RUN/checkpoints/step-00001000/    model, optimizer; progress.json: position, best step

A checkpoint is written under another name and renamed when all ranks have finished. Every rank
writes its own shards; loading re-shards, so another number of ranks may resume.
"""

import logging
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.planner import SavePlanner
from torchrec.optim.keyed import CombinedOptimizer

from service.checkpoint.optimizer_state import OptimizerView
from service.checkpoint.progress import PROGRESS_FILE, Progress, read_progress, write_progress
from service.checkpoint.recut import recut_sums
from service.distributed import Ranks

logger = logging.getLogger(__name__)

PREFIX = "step-"
UNFINISHED = ".unfinished"
DCP_METADATA = ".metadata"
"""What `torch.distributed.checkpoint` writes last."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: ``RUN/checkpoints``.
        ranks: The ranks that write and read together.
        keep: How many are kept besides the best one.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, keep: int = 2) -> None:
        self._folder = folder
        self._ranks = ranks
        self._keep = keep
        self.last_saved = time.time()
        """Seconds since 1970 of the last checkpoint, or of the start of this process."""

    def save(self, model: nn.Module, optimizer: CombinedOptimizer, progress: Progress) -> Path:
        """Write a checkpoint of this step; on return it is whole, and old ones are gone.

        Raises:
            OSError: If it could not be written; the older ones are untouched.
        """
        return self._write(_state(model, OptimizerView(model, optimizer)), progress)

    def write(self, planner: SavePlanner, progress: Progress) -> Path:
        """Write a checkpoint of tensors that the planner makes.

        Raises:
            OSError: If it could not be written.
        """
        return self._write({}, progress, planner)

    def _write(
        self, state: dict[str, Any], progress: Progress, planner: SavePlanner | None = None
    ) -> Path:
        final = self._folder / f"{PREFIX}{progress.step:08d}"
        unfinished = final.with_name(final.name + UNFINISHED)
        if self._ranks.is_first:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        self._ranks.any(False)  # the folder exists before anyone writes into it
        try:
            dcp.save(state, checkpoint_id=unfinished, planner=planner)
        except dcp.api.CheckpointException as error:
            raise OSError(
                f"checkpoint {final} could not be written: {_first(error)}; make room or choose "
                f"another --output, and go on with --resume"
            ) from error
        if self._ranks.is_first:
            write_progress(progress, unfinished)
            if final.exists():  # the same step, now at the end of its epoch
                final.rename(final.with_name(f"{final.name}-old{UNFINISHED}"))
            unfinished.rename(final)
            self._remove_old(progress.best_step)
        self._ranks.any(False)  # nobody goes on before the checkpoint has its name
        self.last_saved = time.time()
        return final

    def load(self, model: nn.Module, optimizer: CombinedOptimizer | None, path: Path) -> Progress:
        """Load a checkpoint into a model built the same way, on any number of ranks.

        Args:
            model: Gets the weights.
            optimizer: Gets its state; ``None`` when only the model is wanted.
            path: Checkpoint folder.

        Raises:
            ValueError: If the checkpoint does not fit the model.
        """
        progress = read_progress(path)
        view = None if optimizer is None else OptimizerView(model, optimizer)
        recut = self._recut(view, path)
        state = _state(model, view, without=recut)
        try:
            dcp.load(state, checkpoint_id=path)
        except dcp.api.CheckpointException as error:
            raise ValueError(
                f"checkpoint {path} does not fit this model: {_first(error)}; train with the "
                f"sizing plan, network and optimizer it was written with, or go on with other "
                f"tables in a folder of its own: --resume-from {path.parent.parent}"
            ) from error
        model.load_state_dict(state["model"])
        if view is not None:
            view.restore_steps()
        return progress

    def _recut(self, view: OptimizerView | None, path: Path) -> set[str]:
        """Load the row-wise sums of tables that are cut into other columns; says which."""
        recut = set() if view is None else recut_sums(view, path)
        everyones = sorted(set().union(*self._ranks.gather(recut)))
        if everyones and self._ranks.is_first:
            logger.warning(
                "%s holds row-wise Adagrad's sums of other column shards of %s: averaged by "
                "columns; the run goes on differently than it would have without the change",
                path,
                ", ".join(everyones),
            )
        return recut

    def last(self) -> Path | None:
        """The newest finished checkpoint; the same on all ranks."""
        return self._ranks.from_first(lambda: last_checkpoint(self._folder))

    def best(self) -> Path | None:
        """The checkpoint that validated best, or the newest where none was validated."""
        return self._ranks.from_first(lambda: best_checkpoint(self._folder))

    def _remove_old(self, best_step: int) -> None:
        for path in _finished(self._folder)[: -self._keep]:
            if path.name != f"{PREFIX}{best_step:08d}":
                shutil.rmtree(path)
        for path in self._folder.glob(f"{PREFIX}*{UNFINISHED}"):
            shutil.rmtree(path, ignore_errors=True)  # left by a run that was killed


def last_checkpoint(folder: Path) -> Path | None:
    """The newest finished checkpoint."""
    return next(reversed(_finished(folder)), None)


def best_checkpoint(folder: Path) -> Path | None:
    """The finished checkpoint that validated best, or the newest where none was validated."""
    finished = _finished(folder)
    if not finished:
        return None
    best = folder / f"{PREFIX}{read_progress(finished[-1]).best_step:08d}"
    return best if best in finished else finished[-1]


def _finished(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(
        path
        for path in folder.glob(f"{PREFIX}*")
        if not path.name.endswith(UNFINISHED)
        and (path / PROGRESS_FILE).is_file()
        and (path / DCP_METADATA).is_file()
    )


def _first(error: dcp.api.CheckpointException) -> str:
    """The failure of the first rank that failed, without its traceback."""
    failure, _ = next(iter(error.failures.values()))
    return str(failure)


def _state(
    model: nn.Module, view: OptimizerView | None, *, without: Collection[str] = ()
) -> dict[str, Any]:
    state: dict[str, Any] = {"model": model.state_dict()}
    if view is not None:
        held = {key: of_weight for key, of_weight in view.state.items() if key not in without}
        state |= {"optimizer": {"state": held}} if held else {}
    return state
