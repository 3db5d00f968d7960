"""What a run says while it trains: log lines, metrics.jsonl and Prometheus metrics."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from service import __version__
from service.checkpoint import Progress
from service.config import TrainConfig
from service.data.batch import Batch
from service.data.dataset import Split
from service.data.loader import Loader
from service.distributed import Ranks
from service.job import num_restarts
from service.loggers.follow import Followers
from service.metrics import EmbeddingMetrics, TrainMetrics, peak_memory_bytes, start_exporter
from service.run_folder import RunFolder, package_versions
from service.train.evaluation import Scores
from service.train.finite import NotANumber
from service.train.profile import profiled

logger = logging.getLogger(__name__)

GIB = 1024**3


class Reporter:
    """Times and counts the steps of one rank; the first rank writes and logs for all.

    Args:
        config: The run; gives the interval of the log and the port of the metrics.
        folder: Gets ``metrics.jsonl``.
        ranks: The ranks, who add their figures up.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, ranks: Ranks) -> None:
        self._config, self._folder, self._ranks = config, folder, ranks
        self.total_steps = 0
        """Steps of a run that does not stop early, for the time left."""
        self._registry = CollectorRegistry()
        self.metrics = TrainMetrics(self._registry, folder=folder.path)
        self.metrics.planned_steps.set_function(lambda: self.total_steps)
        self.embeddings = EmbeddingMetrics(self._registry)
        self.metrics.build.info({"version": __version__, **_underscored(package_versions())})
        self.metrics.restarts.inc(num_restarts())
        self._counted: dict[str, tuple[int, int]] = {}
        self._has_lost_metrics = False
        self._train_seconds = 0.0
        self._train_examples = 0
        self._wait_seconds = 0.0
        self._step_started = 0.0
        self._window = _Window()
        self._followers = Followers(config, folder)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        exporter = start_exporter(
            self._registry,
            self._config.metrics_port,
            self._config.metrics_host,
            local_rank=self._ranks.local_rank,
        )
        self._open.callback(exporter.close)
        if self._ranks.is_first:
            self._open.enter_context(self._followers)
        num_steps = self._config.profile if self._ranks.is_first else 0
        self._end_profiled_step = self._open.enter_context(profiled(self._folder.path, num_steps))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    @property
    def examples_per_second(self) -> float:
        """Over all ranks and steps so far, waiting for data included."""
        return self._train_examples / self._train_seconds if self._train_seconds else 0.0

    def waiting_for(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass batches on and measure how long each one was waited for."""
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            seconds = time.perf_counter() - started
            self._wait_seconds += seconds
            self.metrics.loader_wait_seconds.observe(seconds)
            if batch is None:
                return
            yield batch

    def start_step(self) -> None:
        """Start the clock of a step."""
        self._step_started = time.perf_counter()

    def end_step(self, progress: Progress, loss: Tensor, loader: Loader) -> None:
        """Count a step; log at every interval.

        Raises:
            NotANumber: If the loss of the interval is not a number.
        """
        seconds = time.perf_counter() - self._step_started
        global_size = loader.size_of_batch(progress.batch - 1)
        self._train_seconds += seconds
        self._train_examples += global_size
        progress.num_examples += global_size
        self._window.add(loss, seconds, global_size)
        self.metrics.steps.inc()
        self.metrics.step.set(progress.step)
        self.metrics.examples.inc(global_size / self._ranks.world_size)
        self.metrics.step_seconds.observe(seconds)
        self._end_profiled_step()
        is_time_to_log = progress.step % self._config.log_every == 0
        if is_time_to_log or not self._counted:
            self._count_ids(loader)
        if is_time_to_log:
            self.flush(progress)

    def flush(self, progress: Progress) -> None:
        """Log the steps since the last line; collective.

        Raises:
            NotANumber: If their loss is not a number.
        """
        window, self._window = self._window, _Window()
        if not window.steps:
            return
        waited, self._wait_seconds = self._wait_seconds, 0.0
        loss_sum, wait_sum = self._ranks.sums(window.loss_sum(), waited)
        loss = loss_sum / self._ranks.world_size / window.steps
        self.metrics.loss.set(loss)
        if not math.isfinite(loss):
            raise self._not_a_number(window, progress)
        self.metrics.epoch.set(progress.epoch)
        self._say(progress, loss, window, wait_sum / self._ranks.world_size)

    def _not_a_number(self, window: "_Window", progress: Progress) -> NotANumber:
        """What to raise of a loss that is NaN or infinite, on all ranks alike."""
        firsts = self._ranks.gather(window.num_finite())
        first, rank = min((first, rank) for rank, first in enumerate(firsts))
        back = window.steps - 1 - first  # steps from there to here
        rates = self._config.optimizer
        return NotANumber(
            f"the loss is not a number since step {progress.step - back} (epoch {progress.epoch}, "
            f"batch {progress.batch - back}, rank {rank}), at learning rates of "
            f"{rates.sparse_lr * progress.lr_ratio:g} (tables) and "
            f"{rates.dense_lr * progress.lr_ratio:g} (other layers)",
            "lower --optimizer.sparse-lr or --optimizer.dense-lr and go on with --resume; where "
            "another rate ends at the same step, look at the dense columns and labels of that "
            "batch, or pass it over with --on-nan skip",
            steps_since=back,
        )

    def went_back(self, bad: NotANumber, progress: Progress, path: Path, examples: str) -> str:
        """Note that a batch is passed over; what is said of it."""
        self.metrics.nan_skips.inc()
        said = (
            f"{bad.what}; training takes up the weights of {path.name} and goes on behind step "
            f"{progress.step} with half of the rates (time {progress.num_skipped}): passed over "
            f"are {examples}"
        )
        if self._ranks.is_first:
            logger.warning("%s", said)
        return said

    def scored(self, step: int, epoch: int, scores: Scores, split: Split) -> None:
        """Show the scores of the checkpoint of a step."""
        self.metrics.set_scores(split, asdict(scores))
        if self._ranks.is_first:
            kind = "train_split" if split == "train" else split  # train: of a log interval
            self._record({"step": step, "kind": kind, "epoch": epoch, **asdict(scores)})
            text = "  ".join(f"{name} {value:.6g}" for name, value in asdict(scores).items())
            logger.info("%s at step %d: %s", split, step, text)

    def checkpoint_saved(self, path: Path, seconds: float, waited: float) -> None:
        """Note a checkpoint; also called beside the training."""
        self.metrics.checkpoint_saved()
        if self._ranks.is_first:
            logger.info(
                "checkpoint %s (%.1f s, %.1f s of them training waited)", path.name, seconds, waited
            )

    def checkpoint_failed(self, error: OSError) -> None:
        """Note a checkpoint that could not be written; also called beside the training."""
        self.metrics.checkpoint_failures.inc()
        if self._ranks.is_first:
            logger.error("%s", error)

    def checkpoint_damaged(self) -> None:
        """Count a damaged checkpoint that is passed over."""
        self.metrics.damaged_checkpoints.inc()

    def _record(self, record: Mapping[str, object]) -> None:
        """Add a line to ``metrics.jsonl``, or do without: no figures are worth the training."""
        try:
            self._folder.append_metrics(record)
            self._followers.notify()
        except OSError as error:
            self.metrics.lost_metrics.inc()
            if not self._has_lost_metrics:
                logger.error("metrics are lost: %s; make room, training goes on", error)
            self._has_lost_metrics = True

    def _say(self, progress: Progress, loss: float, window: "_Window", waited: float) -> None:
        if not self._ranks.is_first:
            return
        rate = window.examples / window.seconds
        self._record(
            {
                "step": progress.step,
                "kind": "train",
                "epoch": progress.epoch,
                "examples": progress.num_examples,
                **_of_architecture(progress),
                "loss": loss,
                "examples_per_second": rate,
                "loader_wait_ratio": waited / window.seconds,
            }
        )
        steps_left = max(self.total_steps - progress.step, 0)
        logger.info(
            "step %d/%d  loss %.4f  %.1f k examples/s  waiting %.0f %%  memory %.1f GiB  %s left",
            progress.step,
            self.total_steps,
            loss,
            rate / 1e3,
            100 * waited / window.seconds,
            _memory_bytes(self._ranks.device) / GIB,
            _clock(steps_left * window.seconds / window.steps),
        )

    def _count_ids(self, loader: Loader) -> None:
        for field, lookups in loader.num_lookups.items():
            unknown = loader.num_unknown[field]
            old_lookups, old_unknown = self._counted.get(field, (0, 0))
            self.metrics.lookups.labels(field=field).inc(lookups - old_lookups)
            self.metrics.unknown_ids.labels(field=field).inc(unknown - old_unknown)
            self._counted[field] = lookups, unknown


class _Window:
    """The steps between two lines of the log."""

    def __init__(self) -> None:
        self.steps = 0
        self.examples = 0
        self.seconds = 0.0
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor, seconds: float, num_examples: int) -> None:
        self.steps += 1
        self.examples += num_examples
        self.seconds += seconds
        self._losses.append(loss)

    def loss_sum(self) -> float:
        """Sum of the local losses; only here does a GPU have to answer."""
        return float(torch.stack(self._losses).double().sum())

    def num_finite(self) -> int:
        """Steps before the first whose local loss is not a number."""
        is_finite = torch.isfinite(torch.stack(self._losses))
        return int(is_finite.int().cumprod(0).sum())


def _of_architecture(progress: Progress) -> dict[str, int]:
    """What lines say of runs that have an architecture of their own."""
    num_examples = progress.num_architecture_examples
    return {"architecture_examples": num_examples} if num_examples else {}


def _memory_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return peak_memory_bytes()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _underscored(names: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in names.items() if name != "mixdim"}
