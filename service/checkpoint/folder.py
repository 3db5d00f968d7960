"""Checkpoints: `torch.distributed.checkpoint` folders that are whole, or known not to be.

    RUN/checkpoints/step-00001000/
        __0_0.distcp ... .metadata      weights, optimizer, random state: each rank its own shards
        progress.json                   position in the data, best score, counters
        sizing.json sharding.json       the plans, so that the folder explains itself
        manifest.json                   size and checksum of every file, written last

A checkpoint is written under another name, by a thread beside the training, and renamed when all
ranks have finished. Loading checks every byte and re-shards, so another number of ranks may resume.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Protocol, Self

import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.planner import SavePlanner
from torchrec.optim.keyed import CombinedOptimizer

from service.checkpoint.choice import (
    Choice,
    Examine,
    best,
    examined,
    finished,
    name_of,
    newest,
    set_aside,
)
from service.checkpoint.optimizer_state import OptimizerView
from service.checkpoint.progress import Progress, read_progress
from service.checkpoint.random_state import set_random_state, stored_random_state
from service.checkpoint.recut import recut_sums
from service.checkpoint.staging import staged
from service.checkpoint.state import state_to_load, state_to_save
from service.checkpoint.write import remove_leftovers, write_checkpoint
from service.distributed import Ranks

logger = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told how writing and reading went; of writing by the thread that writes."""

    def checkpoint_saved(self, path: Path, seconds: float, waited: float) -> None:
        """A checkpoint is whole; training waited a part of its time."""

    def checkpoint_failed(self, error: OSError) -> None:
        """A checkpoint could not be written."""

    def checkpoint_damaged(self) -> None:
        """A checkpoint is damaged, and passed over."""


class Checkpoints:
    """The checkpoints of one run; a context that ends when all are written.

    Args:
        folder: ``RUN/checkpoints``.
        ranks: The ranks that write and read together.
        keep: How many are kept besides the best one.
        copies: Files that each checkpoint gets a copy of, as far as they exist.
        listener: Who is told how writing and reading went.
    """

    def __init__(
        self,
        folder: Path,
        ranks: Ranks,
        *,
        keep: int = 2,
        copies: Sequence[Path] = (),
        listener: Listener | None = None,
    ) -> None:
        self._folder, self._ranks, self._keep, self._copies = folder, ranks, keep, copies
        self._listener = listener
        self._writers = replace(ranks, control=ranks.beside)
        self._thread: Thread | None = None
        self._failure: OSError | None = None
        self._crash: BaseException | None = None
        self.problems: dict[str, str] = {}
        """Damaged checkpoints that the last choice passed over, by name with the reasons."""

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint is being written beside the training."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, model: nn.Module, optimizer: CombinedOptimizer, progress: Progress) -> None:
        """Write a checkpoint of this step; on return it is whole, and old ones are gone.

        Raises:
            OSError: If it could not be written; the older ones are untouched.
        """
        self.begin(model, optimizer, progress, beside=False)
        self.finish()

    def begin(
        self,
        model: nn.Module,
        optimizer: CombinedOptimizer,
        progress: Progress,
        *,
        beside: bool = True,
    ) -> None:
        """Begin to write a checkpoint of this step, after the last one; `finish` says how it went.

        Args:
            model: On return it may change: what is written is a copy.
            optimizer: The same.
            progress: The same.
            beside: Whether to copy the state and write beside the training. If not, nothing is
                copied, and the checkpoint is written on return.
        """
        self._join()
        started = time.perf_counter()
        state = state_to_save(model, OptimizerView(model, optimizer), self._ranks)
        record = replace(progress, order=dict(progress.order), world_size=self._ranks.world_size)
        if not beside:
            self._write(state, record, started)
            return
        state = staged(state)
        waited = time.perf_counter() - started
        # A daemon: a process that fails does not wait for ranks that are gone.
        self._thread = Thread(
            target=self._write,
            args=(state, record, started, waited),
            name="mixdim-checkpoint",
            daemon=True,
        )
        self._thread.start()

    def write(self, planner: SavePlanner, progress: Progress) -> Path:
        """Write a checkpoint of tensors that the planner makes, and wait for it.

        Raises:
            OSError: If it could not be written.
        """
        final = self._folder / name_of(progress.step)
        # It has no random state of any rank, whatever their number.
        record = replace(progress, world_size=0)
        write_checkpoint(
            {}, record, final, self._writers, copies=(), keep=self._keep, planner=planner
        )
        return final

    def finish(self) -> None:
        """Wait for the last checkpoint.

        Raises:
            OSError: If it could not be written; the older ones are untouched.
        """
        self._join()
        if self._failure is not None:
            raise self._failure

    def load(self, model: nn.Module, optimizer: CombinedOptimizer | None, path: Path) -> Progress:
        """Load a checkpoint into a model built the same way, on any number of ranks.

        Args:
            model: Gets the weights.
            optimizer: Gets its state, and the random generators theirs on as many ranks as
                before; ``None`` when only the model is wanted.
            path: Checkpoint folder.

        Raises:
            ValueError: If the checkpoint does not fit the model.
        """
        progress = read_progress(path)
        view = None if optimizer is None else OptimizerView(model, optimizer)
        state = state_to_load(model, view, without=self._recut(view, path))
        try:
            dcp.load(state, checkpoint_id=path)
        except dcp.api.CheckpointException as error:
            failure, _ = next(iter(error.failures.values()))
            raise ValueError(
                f"checkpoint {path} does not fit this model: {failure}; train with the "
                f"sizing plan, network and optimizer it was written with, or go on with other "
                f"tables in a folder of its own: --resume-from {path.parent.parent}"
            ) from error
        model.load_state_dict(state["model"])
        if view is not None:
            view.restore_steps()
            if progress.world_size == self._ranks.world_size:
                set_random_state(stored_random_state(path, self._ranks.rank))
        return progress

    def last(self) -> Path | None:
        """The newest whole checkpoint; the same on all ranks.

        Raises:
            ValueError: If there are checkpoints, and none is whole.
        """
        return self._choose(newest)

    def best(self) -> Path | None:
        """The whole checkpoint that validated best, or the newest where none was validated.

        Raises:
            ValueError: If there are checkpoints, and none is whole.
        """
        return self._choose(best)

    def set_aside(self) -> None:
        """Rename what the last choice passed over, so that no later one takes it for newer."""
        self._ranks.from_first(lambda: set_aside(self._folder, self.problems))

    def _choose(self, which: Callable[[Path, Sequence[Path], Examine], Choice]) -> Path | None:
        self._join()
        paths = self._ranks.from_first(lambda: finished(self._folder))
        path, self.problems = which(self._folder, paths, self._examine)
        for name, problem in self.problems.items():
            if self._listener is not None:
                self._listener.checkpoint_damaged()
            if self._ranks.is_first:
                logger.warning("checkpoint %s is damaged: %s", self._folder / name, problem)
        return path

    def _examine(self, path: Path) -> str | None:
        """What is wrong with a checkpoint; each rank reads a share of it."""
        ranks = self._ranks
        found = ranks.gather(examined(path, part=ranks.rank, parts=ranks.world_size))
        return next((problem for problem in found if problem), None)

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

    def _write(
        self, state: dict[str, Any], progress: Progress, started: float, waited: float | None = None
    ) -> None:
        """Write, and keep how it went for the thread that trains."""
        self._failure = None
        final = self._folder / name_of(progress.step)
        try:
            write_checkpoint(
                state, progress, final, self._writers, copies=self._copies, keep=self._keep
            )
        except OSError as error:
            self._failure = error
            if self._listener is not None:
                self._listener.checkpoint_failed(error)
            return
        except BaseException as error:
            if waited is None:
                raise
            self._crash = error  # as when a rank is gone: raised where training waits for us
            return
        if self._listener is not None:
            seconds = time.perf_counter() - started
            self._listener.checkpoint_saved(final, seconds, seconds if waited is None else waited)

    def _join(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        crash, self._crash = self._crash, None
        if crash is not None:
            raise crash

    def __enter__(self) -> Self:
        if self._ranks.is_first:
            remove_leftovers(self._folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._join()
        elif self._thread is not None and not issubclass(kind, KeyboardInterrupt):
            self._thread.join()
