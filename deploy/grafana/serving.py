"""How models answer, what they are asked, and what they say: the dashboard of ``serve-model``."""

from typing import Final

from deploy.grafana.panels import Board, Panel

REQUESTS: Final = "rate(mixdim_serving_request_seconds_count{@models}[$__rate_interval])"
LATENCY: Final = (
    'sum by (le) (rate(mixdim_serving_request_seconds_bucket{@models, status="200"}'
    "[$__rate_interval]))"
)
BATCHES: Final = "sum by (le) (rate(mixdim_serving_batch_rows_bucket{@models}[$__rate_interval]))"
SCORING: Final = "mixdim_serving_batch_seconds_{}{{@models}}[$__rate_interval]"

NUMBERS: Final = (
    Panel(
        title="Model servers",
        about="Those that Prometheus reaches.",
        queries=[("count(mixdim_serving_model_info{@models})", "")],
        kind="number",
        width=3,
    ),
    Panel(
        title="Artifact",
        about="Name, version and type of the tables of what is served.",
        queries=[("mixdim_serving_model_info{@models}", "{{name}} {{version}} {{dtype}}")],
        kind="number",
        width=6,
        shows_name=True,
    ),
    Panel(
        title="Loaded since",
        about="Of the version that is served longest: old ones score new values badly.",
        queries=[("max(time() - mixdim_serving_loaded_timestamp_seconds{@models})", "")],
        kind="number",
        unit="s",
        width=3,
        decimals=0,
    ),
    Panel(
        title="Requests",
        about="For predictions, a second; refused ones among them.",
        queries=[(f"sum({REQUESTS})", "")],
        kind="number",
        unit="reqps",
        width=3,
        decimals=1,
    ),
    Panel(
        title="Rows",
        about="Scored a second.",
        queries=[("sum(rate(mixdim_serving_rows_total{@models}[$__rate_interval]))", "")],
        kind="number",
        width=3,
        decimals=0,
    ),
    Panel(
        title="Errors",
        about="Share of requests that got 5xx in the last 5 minutes; 503 is: too many rows wait.",
        queries=[("max(mixdim:model_errors:ratio5m{@models}) or vector(0)", "")],
        kind="number",
        unit="percentunit",
        width=3,
        decimals=2,
        is_warning=True,
    ),
    Panel(
        title="Refused versions",
        about="New versions in the time shown that could not be loaded; the old one stayed.",
        queries=[
            (
                'sum(increase(mixdim_serving_reloads_total{@models, outcome="refused"}[$__range]))',
                "",
            )
        ],
        kind="number",
        width=3,
        decimals=0,
        is_warning=True,
    ),
)

ANSWERS: Final = (
    Panel(
        title="Requests by status",
        about="422 are rows that are no good, 413 too many at once, 503 too many that wait.",
        queries=[(f"sum by (status) ({REQUESTS})", "{{status}}")],
        unit="reqps",
    ),
    Panel(
        title="Time to answer",
        about="Of requests that were scored, waiting for others of their batch included.",
        queries=[
            # A quantile of no requests is not a number; >= 0 leaves it out.
            (f"histogram_quantile({q / 100}, {LATENCY}) >= 0", f"p{q}")
            for q in (50, 90, 99)
        ],
        unit="s",
    ),
    Panel(
        title="Requests by server",
        about="Even where a balancer shares them out.",
        queries=[("mixdim:model_requests:rate5m{@models}", "{{instance}}")],
        unit="reqps",
    ),
    Panel(
        title="Rows scored together",
        about="Requests that come at once share a batch; a batch costs little more than a row.",
        queries=[(f"histogram_quantile({q / 100}, {BATCHES}) >= 0", f"p{q}") for q in (50, 90, 99)],
    ),
    Panel(
        title="Time of a batch",
        about="Mean time to encode and score one. What requests take beyond it, they waited.",
        queries=[
            (
                f"sum by (instance) (rate({SCORING.format('sum')}))"
                f" / (sum by (instance) (rate({SCORING.format('count')})) > 0)",
                "{{instance}}",
            )
        ],
        unit="s",
    ),
    Panel(
        title="Rows that wait",
        about="For a batch. Beyond --max-waiting-rows requests get 503.",
        queries=[("mixdim_serving_waiting_rows{@models}", "{{instance}}")],
    ),
)

SAYS: Final = (
    Panel(
        title="Rows a second",
        about="Scored, and no good: a request with one of those is refused whole.",
        queries=[
            ("sum(rate(mixdim_serving_rows_total{@models}[$__rate_interval]))", "scored"),
            ("sum(rate(mixdim_serving_bad_rows_total{@models}[$__rate_interval]))", "no good"),
        ],
    ),
    Panel(
        title="Values out of vocabulary",
        about="A row, of the ten worst fields. They share a row of their table: train again.",
        queries=[("topk(10, mixdim:model_unknown:ratio10m{@models})", "{{instance}} {{field}}")],
        unit="percentunit",
    ),
    Panel(
        title="Mean prediction",
        about="It moves with the data, and with versions: see what is loaded when.",
        queries=[("mixdim:model_prediction:mean10m{@models}", "{{instance}}")],
    ),
    Panel(
        title="What is loaded",
        about="A line begins where a version was taken.",
        queries=[("mixdim_serving_model_info{@models}", "{{instance}} {{name}} {{version}}")],
        width=12,
    ),
    Panel(
        title="New versions",
        about="Taken and refused in the time shown.",
        queries=[
            (
                "sum by (outcome) (increase(mixdim_serving_reloads_total{@models}[$__range]))",
                "{{outcome}}",
            )
        ],
        kind="bars",
        width=12,
        decimals=0,
    ),
)

BOARD: Final = Board(
    uid="mixdim-serving",
    title="MixDim models",
    about="How models answer, what they are asked, and what they say.",
    variables=("instance",),
    panels=[*NUMBERS, *ANSWERS, *SAYS],
)
