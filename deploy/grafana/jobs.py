"""What waits, what runs, what failed, and how the service answers: the dashboard of jobs."""

from typing import Final

from deploy.grafana.panels import Board, Panel

LATENCY: Final = "sum by (le) (rate(mixdim_service_request_seconds_bucket[$__rate_interval]))"


def _number(title: str, about: str, query: str, *, is_warning: bool = False) -> Panel:
    return Panel(
        title=title,
        about=about,
        queries=[(query, "")],
        kind="number",
        unit="s" if "seconds" in query else "short",
        width=4,
        is_warning=is_warning,
    )


def _jobs(state: str) -> str:
    return f'sum(mixdim_service_jobs{{state="{state}"}})'


BOARD: Final = Board(
    uid="mixdim-jobs",
    title="MixDim jobs",
    about="What waits, what runs, what failed, and how the service answers.",
    variables=(),
    panels=[
        _number("Running", "Jobs that run.", _jobs("running")),
        _number("Queued", "Jobs that wait for their turn.", _jobs("queued")),
        _number(
            "Longest wait",
            "How long the job that has waited longest waits.",
            "max(mixdim_service_oldest_queued_seconds)",
        ),
        _number(
            "Failed",
            "Jobs that failed in the time shown.",
            'sum(increase(mixdim_service_jobs_ended_total{event="fail"}[$__range]))',
            is_warning=True,
        ),
        _number("Live ranks", "Ranks that discovery named last.", "max(mixdim_service_live_ranks)"),
        _number("Ranks reached", "Ranks that Prometheus scrapes.", 'sum(up{run!=""})'),
        Panel(
            title="Jobs by state",
            about="All jobs on record.",
            queries=[("sum by (state) (mixdim_service_jobs)", "{{state}}")],
        ),
        Panel(
            title="Jobs begun and ended",
            about="In the time shown; end is cancelled.",
            queries=[
                ("sum(increase(mixdim_service_jobs_started_total[$__range]))", "begun"),
                (
                    "sum by (event) (increase(mixdim_service_jobs_ended_total[$__range]))",
                    "{{event}}",
                ),
            ],
            kind="bars",
            decimals=0,
        ),
        Panel(
            title="Progress of runs",
            about="Steps done over those of a run that does not stop early.",
            queries=[("mixdim:run_progress:ratio", "{{run}}")],
            kind="bars",
            unit="percentunit",
        ),
        Panel(
            title="Requests by status",
            about="4xx are refusals, 5xx errors of the service.",
            queries=[
                (
                    "sum by (status) (rate(mixdim_service_requests_total[$__rate_interval]))",
                    "{{status}}",
                )
            ],
            unit="reqps",
        ),
        Panel(
            title="Time to answer",
            about="Until an answer begins; streams go on after that.",
            queries=[
                # A quantile of no requests is not a number; >= 0 leaves it out.
                (f"histogram_quantile({q / 100}, {LATENCY}) >= 0", f"p{q}")
                for q in (50, 90, 99)
            ],
            unit="s",
        ),
        Panel(
            title="Slowest routes",
            about="Mean time to answer; the ten slowest.",
            queries=[
                (
                    "topk(10, sum by (route) (rate(mixdim_service_request_seconds_sum[5m]))"
                    " / (sum by (route) (rate(mixdim_service_request_seconds_count[5m])) > 0))",
                    "{{route}}",
                )
            ],
            kind="bars",
            unit="s",
        ),
        Panel(
            title="Look at all jobs",
            about="Mean time of one turn of the scheduler.",
            queries=[
                (
                    "rate(mixdim_service_turn_seconds_sum[5m])"
                    " / (rate(mixdim_service_turn_seconds_count[5m]) > 0)",
                    "a turn",
                )
            ],
            unit="s",
            width=12,
        ),
        Panel(
            title="Logs being followed",
            about="Open streams.",
            queries=[("sum(mixdim_service_log_followers)", "followers")],
            width=12,
        ),
    ],
)
