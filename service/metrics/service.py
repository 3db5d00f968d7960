"""What ``mixdim serve`` tells Prometheus of its jobs and its requests."""

from collections.abc import Iterable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""

REFUSALS: Final = ("unauthorized", "forbidden", "too_large", "too_many")
"""Why requests are not served: no valid token, no right, a body or a rate over its limit."""


class ServiceMetrics:
    """The service's own metrics.

    Every series is there from the start, at 0: a rate over a counter that only begins with its
    first event misses that event.

    Args:
        registry: Where the metrics are declared; never the global one.
        states: Every state that a job may be in.
        verbs: Every verb that may be submitted.
    """

    def __init__(
        self, registry: CollectorRegistry, *, states: Iterable[str], verbs: Iterable[str]
    ) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self.jobs = gauge("mixdim_service_jobs", "Jobs on record, by state.", ["state"])
        self.queued_jobs = gauge("mixdim_service_queued_jobs", "Jobs that wait for their turn.")
        self.oldest_queued = gauge(
            "mixdim_service_oldest_queued_seconds",
            "How long the job that has waited longest waits; 0 where none does.",
        )
        self.live_ranks = gauge(
            "mixdim_service_live_ranks", "Ranks that service discovery names now."
        )
        self.submissions = counter(
            "mixdim_service_submissions_total", "Jobs that were taken, by verb.", ["verb"]
        )
        self.ended_jobs = counter(
            "mixdim_service_ended_jobs_total",
            "Jobs that have ended, by their last state.",
            ["state"],
        )
        self.refused_requests = counter(
            "mixdim_service_refused_requests_total",
            "Requests that were not served, by reason.",
            ["reason"],
        )
        self.request_seconds = Histogram(
            "mixdim_service_request_seconds",
            "Time to answer a request, by route and class of status; streams end when read.",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self._begin(states, verbs)

    def _begin(self, states: Iterable[str], verbs: Iterable[str]) -> None:
        for state in states:
            self.jobs.labels(state=state)
        for state in ("succeeded", "failed", "cancelled"):
            self.ended_jobs.labels(state=state)
        for verb in verbs:
            self.submissions.labels(verb=verb)
        for reason in REFUSALS:
            self.refused_requests.labels(reason=reason)
