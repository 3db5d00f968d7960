"""Every Prometheus metric of the product, declared once, and the exporter that serves them.

Each rank has a registry and a port of its own: client_python's multiprocess mode loses gauges'
functions and half of the types. docs/monitoring.md says what to look at; nothing here needs torch.
"""

import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Final, Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    start_http_server,
)

MAX_PORT: Final = 65_535
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
        clock: Seconds since the epoch.
    """

    def __init__(
        self, registry: CollectorRegistry, *, clock: Callable[[], float] = time.time
    ) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=SECONDS_BUCKETS)
        self._clock = clock
        self._last_checkpoint = clock()

        self.examples = counter("mixdim_train_examples_total", "Examples this rank trained on.")
        self.steps = counter("mixdim_train_steps_total", "Optimizer steps done.")
        self.epoch = gauge("mixdim_train_epoch", "Epochs finished.")
        self.loss = gauge("mixdim_train_loss", "Training loss of the last logged step.")
        self.step_seconds = histogram(
            "mixdim_train_step_seconds", "Time of one step, waiting for data included."
        )
        self.loader_wait_seconds = histogram(
            "mixdim_train_loader_wait_seconds", "Time one step waited for its batch."
        )
        self.unknown_ids = counter(
            "mixdim_train_unknown_ids_total", "Looked-up ids outside the vocabulary.", ["field"]
        )
        self.table_bytes = gauge(
            "mixdim_table_bytes", "Weights and optimizer state of a table.", ["table", "rank"]
        )
        self.plan_imbalance = gauge(
            "mixdim_plan_imbalance_ratio", "Bytes of the fullest rank over the mean; 1 is even."
        )
        self._declare_faults(registry)
        age = gauge("mixdim_checkpoint_age_seconds", "Time since the last checkpoint, or start.")
        age.set_function(self._checkpoint_age_seconds)
        peak = gauge("mixdim_process_peak_memory_bytes", "Most memory this process ever held.")
        peak.set_function(peak_memory_bytes)
        self.build = Info("mixdim_build", "Versions of what is running.", registry=registry)
        self._scores = {
            score: gauge(f"mixdim_eval_{name}", text, ["split"])
            for score, (name, text) in SCORES.items()
        }

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


def peak_memory_bytes() -> float:
    """Most resident memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)  # Linux counts in KiB


class Exporter:
    """A ``/metrics`` page that is served until closed; one that is switched off has no port."""

    def __init__(self, server: WSGIServer | None, thread: threading.Thread | None) -> None:
        self._server, self._thread = server, thread

    @property
    def port(self) -> int | None:
        """Where the page is; None while nothing is served."""
        return self._server.server_port if self._server else None

    def close(self) -> None:
        """Stop serving and free the port; may be called again."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def start_exporter(
    registry: CollectorRegistry, port: int, host: str = "127.0.0.1", *, local_rank: int = 0
) -> Exporter:
    """Serve a rank's metrics at ``port + local_rank``.

    Args:
        registry: What to serve.
        port: Port of local rank 0; 0 serves nothing.
        host: Address to listen on.
        local_rank: This process among the ranks of its machine.

    Raises:
        ValueError: If there is no such port.
        OSError: If the port is taken, or the address is not this machine's.
    """
    if port == 0:
        return Exporter(None, None)
    own_port = port + local_rank
    if not 0 < port <= own_port <= MAX_PORT:
        raise ValueError(
            f"metrics port {own_port} of local rank {local_rank}, expected at most {MAX_PORT}; "
            f"try --metrics-port 9400"
        )
    try:
        return Exporter(*start_http_server(own_port, addr=host, registry=registry))
    except OSError as error:
        raise OSError(
            f"metrics port {own_port} on {host} of local rank {local_rank}: {error.strerror}; "
            f"give --metrics-port a port that is free, with the next ones for further ranks, or 0"
        ) from error
