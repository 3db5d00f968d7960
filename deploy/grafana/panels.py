"""What a dashboard is made of, and how it becomes Grafana's JSON.

Queries name what a reader has chosen at the top of the dashboard by ``@runs``, ``@ranks`` and
``@models``: ``mixdim_train_loss{@ranks}``. `dashboard` puts the variables there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.builders import bargauge, stat, timeseries
from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.builders import prometheus as prometheus
from grafana_foundation_sdk.models import common as choices
from grafana_foundation_sdk.models import dashboard as models

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="mixdim-prometheus")
RUNS: Final = 'job=~"$job", run=~"$run"'
CHOSEN: Final = {
    "@runs": RUNS,
    "@ranks": RUNS + ', rank=~"$rank"',
    "@models": 'instance=~"$instance"',
}
"""What placeholders of queries stand for."""
VARIABLES: Final = {
    "job": 'label_values(up{run!=""}, job)',
    "run": 'label_values(up{job=~"$job", run!=""}, run)',
    "rank": 'label_values(up{job=~"$job", run=~"$run", run!=""}, rank)',
    "instance": "label_values(mixdim_serving_model_info, instance)",
}
"""What can be chosen, and where Grafana finds the values."""

Unit = Literal["short", "s", "bytes", "percentunit", "reqps"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One panel: figures, what they are, and what they say."""

    title: str
    about: str
    """What a reader learns from it; shown on a click."""
    queries: Sequence[tuple[str, str]]
    """Queries with the names of their series."""
    kind: Literal["curves", "number", "bars"] = "curves"
    unit: Unit = "short"
    width: int = 8
    """Of the grid's 24 columns."""
    decimals: int | None = None
    shows_name: bool = False
    """Whether a number's name is shown in its place, as of a version."""
    is_warning: bool = False
    """Whether anything above 0 is bad."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    about: str
    panels: Sequence[Panel]
    variables: Sequence[str] = ("job", "run", "rank")
    """Of `VARIABLES`, the ones that a reader may choose by."""


def dashboard(board: Board) -> models.Dashboard:
    """Build a dashboard in Grafana's model."""
    built = (
        grafana.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["mixdim"])
        .refresh("5s")
        .time("now-30m", "now")
        .timezone("browser")
        .editable()
        .link(_links())
        .annotation(_alerts())
    )
    for name in board.variables:
        built = built.with_variable(_variable(name))
    for number, panel in enumerate(board.panels, 1):
        made = BUILDERS[panel.kind](panel)
        for place, (query, legend) in enumerate(panel.queries):
            made = made.with_target(_target(query, legend, chr(ord("A") + place), panel))
        if panel.decimals is not None:
            made = made.decimals(panel.decimals)
        height = 4 if panel.kind == "number" else 8
        built = built.with_panel(
            made.id(number)
            .title(panel.title)
            .description(panel.about)
            .datasource(SOURCE)
            .unit(panel.unit)
            .span(panel.width)
            .height(height)
        )
    return built.build()


def _curves(panel: Panel) -> timeseries.Panel:
    legend = parts.VizLegendOptions().show_legend(True).placement(choices.LegendPlacement.BOTTOM)
    tooltip = parts.VizTooltipOptions().mode(choices.TooltipDisplayMode.MULTI)
    made = timeseries.Panel().line_width(1).fill_opacity(5).span_nulls(True)
    if panel.unit in ("s", "bytes", "reqps"):
        made = made.min(0)
    return made.legend(legend.display_mode(choices.LegendDisplayMode.LIST)).tooltip(tooltip)


def _number(panel: Panel) -> stat.Panel:
    last = parts.ReduceDataOptions().calcs(["lastNotNull"])
    mode = choices.BigValueTextMode.NAME if panel.shows_name else choices.BigValueTextMode.VALUE
    made = stat.Panel().reduce_options(last).text_mode(mode).thresholds(_thresholds(panel))
    return made.graph_mode(choices.BigValueGraphMode.NONE).no_value("-")


def _bars(panel: Panel) -> bargauge.Panel:
    last = parts.ReduceDataOptions().calcs(["lastNotNull"])
    made = bargauge.Panel().reduce_options(last).min(0).thresholds(_thresholds(panel))
    if panel.unit == "percentunit":
        made = made.max(1)
    return made.orientation(choices.VizOrientation.HORIZONTAL)


BUILDERS: Final[dict[str, Callable[[Panel], timeseries.Panel | stat.Panel | bargauge.Panel]]] = {
    "curves": _curves,
    "number": _number,
    "bars": _bars,
}


def _thresholds(panel: Panel) -> grafana.ThresholdsConfig:
    steps = [models.Threshold(value=None, color="green")]
    if panel.is_warning:
        steps.append(models.Threshold(value=0.001, color="red"))
    return grafana.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _target(query: str, legend: str, name: str, panel: Panel) -> prometheus.Dataquery:
    for placeholder, chosen in CHOSEN.items():
        query = query.replace(placeholder, chosen)
    target = prometheus.Dataquery().expr(query).legend_format(legend).ref_id(name)
    target = target.datasource(SOURCE)
    return target.range() if panel.kind == "curves" else target.instant()


def _variable(name: str) -> grafana.QueryVariable:
    everything = models.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        grafana.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(VARIABLES[name])
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .include_all(True)
        .all_value(".*")
        .multi(True)
        .current(everything)
    )


def _links() -> grafana.DashboardLink:
    """From every dashboard to the others, with what was chosen."""
    return (
        grafana.DashboardLink("MixDim")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags(["mixdim"])
        .include_vars(True)
        .keep_time(True)
    )


def _alerts() -> grafana.AnnotationQuery:
    """Alerts that fire, as lines in all panels."""
    return (
        grafana.AnnotationQuery()
        .name("Alerts")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("red")
        .expr('ALERTS{alertstate="firing", alertname=~"Mixdim.*"}')
        .title_format("{{alertname}}")
        .text_format("{{run}} rank {{rank}}")
    )
