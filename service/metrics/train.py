"""What a rank of a training tells Prometheus."""

import math
import resource
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from shutil import disk_usage
from types import MappingProxyType
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)

SECONDS_BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds from a cached batch to a step that waits for a slow disk."""

SCORES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "auc": ("auc_ratio", "Area under the ROC curve."),
        "log_loss": ("log_loss", "Mean negative log likelihood, in nats."),
        "ne": ("normalized_entropy_ratio", "Log loss over that of predicting the mean label."),
        "calibration": ("calibration_ratio", "Mean prediction over mean label."),
        "mse": ("mean_squared_error", "Mean squared error, in squared units of the label."),
        "rmse": ("root_mean_squared_error", "Root of the mean squared error, in label units."),
        "num_rows": ("rows", "Rows that the scores were computed on."),
    }
)
"""Short name of a score -> end of its metric's name, and its help text."""


class TrainMetrics:
    """What one rank of a training run tells Prometheus.

    Args:
        registry: Where the metrics are declared; never the global one.
        folder: Run folder, whose disk is watched; None for no run.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=SECONDS_BUCKETS)
        self._clock = clock
        self._last_checkpoint = clock()

        self.examples = counter("mixdim_train_examples_total", "Examples this rank trained on.")
        self.steps = counter("mixdim_train_steps_total", "Optimizer steps done.")
        self.step = gauge("mixdim_train_step", "Step of the run, those before a resume included.")
        self.planned_steps = gauge(
            "mixdim_train_planned_steps", "Optimizer steps of a run that does not stop early."
        )
        self.epoch = gauge("mixdim_train_epoch", "Epochs finished.")
        self.loss = gauge("mixdim_train_loss", "Training loss of the last logged step.")
        self.step_seconds = histogram(
            "mixdim_train_step_seconds", "Time of one step, waiting for data included."
        )
        self.loader_wait_seconds = histogram(
            "mixdim_train_loader_wait_seconds", "Time one step waited for its batch."
        )
        self.lookups = counter("mixdim_train_lookups_total", "Ids looked up.", ["field"])
        self.unknown_ids = counter(
            "mixdim_train_unknown_ids_total", "Looked-up ids outside the vocabulary.", ["field"]
        )
        self._declare_tables(registry)
        self._declare_faults(registry)
        self._watch_machine(registry, folder)
        self.build = Info("mixdim_build", "Versions of what is running.", registry=registry)
        self._scores = {
            score: gauge(f"mixdim_eval_{name}", text, ["split"])
            for score, (name, text) in SCORES.items()
        }

    def _declare_tables(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self.table_bytes = gauge(
            "mixdim_table_bytes", "Weights and optimizer state of a table.", ["table", "rank"]
        )
        self.plan_imbalance = gauge(
            "mixdim_plan_imbalance_ratio", "Bytes of the fullest rank over the mean; 1 is even."
        )
        age = gauge("mixdim_checkpoint_age_seconds", "Time since the last checkpoint, or start.")
        age.set_function(self._checkpoint_age_seconds)

    def _declare_faults(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self.checkpoint_failures = counter(
            "mixdim_checkpoint_failures_total", "Checkpoints that could not be written."
        )
        self.damaged_checkpoints = counter(
            "mixdim_checkpoint_damaged_total", "Damaged checkpoints that were passed over."
        )
        self.nan_skips = counter(
            "mixdim_train_nan_skips_total", "Batches passed over: their loss was not a number."
        )
        self.lost_metrics = counter(
            "mixdim_train_lost_metrics_total", "Lines that metrics.jsonl lacks for want of room."
        )
        self.restarts = counter(
            "mixdim_train_restarts_total", "How often the ranks of this job were started again."
        )
        self.idle_seconds = Gauge(
            "mixdim_train_idle_seconds",
            "Time since this rank has last made progress.",
            registry=registry,
        )

    def _watch_machine(self, registry: CollectorRegistry, folder: Path | None) -> None:
        gauge = partial(Gauge, registry=registry)
        peak = gauge("mixdim_process_peak_memory_bytes", "Most memory this process ever held.")
        peak.set_function(peak_memory_bytes)
        free = gauge("mixdim_run_disk_free_bytes", "Room on the disk of the run folder.")
        size = gauge("mixdim_run_disk_size_bytes", "Size of the disk of the run folder.")
        if folder is not None:
            free.set_function(lambda: _disk(folder)[0])
            size.set_function(lambda: _disk(folder)[1])
        # Memory, processor time and open files, as the client library reads them from Linux.
        ProcessCollector(namespace="mixdim", registry=registry)

    def checkpoint_saved(self) -> None:
        """Start the checkpoint's age anew."""
        self._last_checkpoint = self._clock()

    def set_scores(self, split: str, scores: Mapping[str, float]) -> None:
        """Show the scores of an evaluation.

        Args:
            split: What was evaluated.
            scores: Values by the short names in `SCORES`.
        """
        for name, value in scores.items():
            self._scores[name].labels(split=split).set(value)

    def _checkpoint_age_seconds(self) -> float:
        return self._clock() - self._last_checkpoint


def _disk(folder: Path) -> tuple[float, float]:
    """Free bytes and size of a folder's disk; no numbers where the folder is gone."""
    try:
        usage = disk_usage(folder)
    except OSError:
        return math.nan, math.nan
    return usage.free, usage.total


def peak_memory_bytes() -> float:
    """Most resident memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)  # Linux counts in KiB
