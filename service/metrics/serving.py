"""What ``mixdim serve-model`` tells Prometheus."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds."""
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class ServingMetrics:
    """The metrics of a model that is served.

    Args:
        registry: Where they are declared; never the global one.
        fields: Categorical columns of the model.
    """

    def __init__(self, registry: CollectorRegistry, fields: tuple[str, ...]) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.registry = registry
        self.request_seconds = histogram(
            "mixdim_serving_request_seconds",
            "Time to answer a request for predictions, by status.",
            ["status"],
            buckets=REQUEST_BUCKETS,
        )
        self.rows = counter("mixdim_serving_rows_total", "Rows that were scored.")
        self.bad_rows = counter("mixdim_serving_bad_rows_total", "Rows that were no good.")
        self.unknown_values = counter(
            "mixdim_serving_unknown_values_total", "Values outside of the vocabulary.", ["field"]
        )
        self.predictions = counter(
            "mixdim_serving_predictions_sum_total",
            "Sum of all predictions; over the rows it is their mean, which drifts with the data.",
        )
        self.batch_rows = histogram(
            "mixdim_serving_batch_rows", "Rows that were scored together.", buckets=BATCH_BUCKETS
        )
        self.batch_seconds = histogram(
            "mixdim_serving_batch_seconds", "Time to score a batch.", buckets=REQUEST_BUCKETS
        )
        self.waiting_rows = gauge("mixdim_serving_waiting_rows", "Rows that wait to be scored.")
        self.reloads = counter(
            "mixdim_serving_reloads_total", "New versions that were taken, or refused.", ["outcome"]
        )
        self.model = gauge(
            "mixdim_serving_model_info", "What is served; 1.", ["name", "version", "dtype"]
        )
        self.loaded = gauge(
            "mixdim_serving_loaded_timestamp_seconds", "When it was loaded, since the epoch."
        )
        for field in fields:
            self.unknown_values.labels(field=field)
        for outcome in ("taken", "refused"):
            self.reloads.labels(outcome=outcome)

    def count_unknown(self, by_field: Mapping[str, int]) -> None:
        """Add values outside of the vocabulary."""
        for field, number in by_field.items():
            self.unknown_values.labels(field=field).inc(number)

    def show_model(self, *, name: str, version: str, dtype: str, at: float) -> None:
        """Say what is served from now on."""
        self.model.clear()
        self.model.labels(name=name, version=version, dtype=dtype).set(1)
        self.loaded.set(at)
