"""What the service tells Prometheus of itself."""

from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServiceMetrics:
    """Counters of the service.

    Args:
        registry: Where they are declared; never the global one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=REQUEST_BUCKETS)
        self.registry = registry
        self.requests = counter(
            "mixdim_service_requests_total", "Requests answered.", ["method", "route", "status"]
        )
        self.request_seconds = histogram(
            "mixdim_service_request_seconds", "Time until an answer began.", ["route"]
        )
        self.started = counter("mixdim_service_jobs_started_total", "Jobs begun.")
        self.ended = counter("mixdim_service_jobs_ended_total", "Jobs that ended.", ["event"])
        self.turn_seconds = histogram(
            "mixdim_service_turn_seconds", "Time of one look at all jobs."
        )
        self.followers = Gauge(
            "mixdim_service_log_followers", "Logs being followed.", registry=registry
        )


class JobCounts(Collector):
    """Jobs by state, counted when Prometheus asks.

    Args:
        count: Counts them.
    """

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> list[GaugeMetricFamily]:
        """One sample a state."""
        family = GaugeMetricFamily("mixdim_service_jobs", "Jobs by state.", labels=["state"])
        for state, number in self._count().items():
            family.add_metric([state], number)
        return [family]
