"""What ``mixdim serve`` tells Prometheus of its jobs and its requests."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

REQUEST_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds in seconds."""
ENDS: Final = ("succeed", "fail", "end")
"""Events that end a job; a cancelled one's is end."""


class ServiceMetrics:
    """The service's own metrics.

    Args:
        registry: Where the metrics are declared; never the global one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
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
        self.followers = gauge("mixdim_service_log_followers", "Logs being followed.")
        self.live_ranks = gauge("mixdim_service_live_ranks", "Ranks that discovery named last.")
        for event in ENDS:  # a rate over a series that begins with its first event misses that one
            self.ended.labels(event=event)


class JobCounts(Collector):
    """Jobs by state, and how long they wait, looked up when Prometheus asks.

    Args:
        count: Jobs by state.
        oldest_queued_seconds: How long the job that has waited longest waits; 0 where none does.
    """

    def __init__(
        self,
        count: Callable[[], Mapping[str, int]],
        oldest_queued_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._count, self._oldest_queued_seconds = count, oldest_queued_seconds

    def collect(self) -> list[GaugeMetricFamily]:
        """One sample a state, and the age of the queue."""
        jobs = GaugeMetricFamily("mixdim_service_jobs", "Jobs by state.", labels=["state"])
        for state, number in self._count().items():
            jobs.add_metric([state], number)
        waiting = GaugeMetricFamily(
            "mixdim_service_oldest_queued_seconds",
            "How long the job that has waited longest waits.",
            value=self._oldest_queued_seconds(),
        )
        return [jobs, waiting]
