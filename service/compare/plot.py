"""The frontier as a picture: bytes to the right, quality upward or downward, a line a sizing."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from service.compare.frontier import LOWER_IS_BETTER, Point, num_bytes
from service.compare.spec import CompareSpec
from service.compare.statistics import Summary

INK: Final = "#222222"
FAINT: Final = "#8a8a8a"
COLOURS: Final = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7f3c8d", "#8c6d31", "#4c566a", "#b22222"),
)
"""Okabe and Ito's palette, which colour-blind readers can tell apart, then darker ones."""
MARKERS: Final = "osD^vPX<>*"
DODGE: Final = 0.013
"""Least distance of two points, as a share of the axis' width."""
LABEL_GAP: Final = 0.048
"""Least distance of two labels, as a share of the axis' height."""

Style = tuple[str, str]
"""Colour and marker."""

NAMES: Final[Mapping[str, str]] = {
    "mse": "MSE",
    "rmse": "RMSE",
    "auc": "AUC",
    "log_loss": "log loss",
    "ne": "normalised entropy",
}


def draw(spec: CompareSpec, points: Sequence[Point]) -> list[Path]:
    """Draw ``frontier-RECIPE.png`` and ``.svg`` of every recipe."""
    paths = []
    for recipe in dict.fromkeys(point.recipe for point in points):
        of_recipe = [point for point in points if point.recipe == recipe]
        # Text stays text in SVG, and the same points make the same bytes.
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mixdim"}):
            figure = _figure(spec, recipe, of_recipe)
            for ending in ("png", "svg"):
                path = spec.output / f"frontier-{recipe}.{ending}"
                figure.savefig(path, dpi=160, metadata={"Date": None} if ending == "svg" else {})
                paths.append(path)
    return paths


def _figure(spec: CompareSpec, recipe: str, points: Sequence[Point]) -> Figure:
    figure = Figure(figsize=(8.4, 5.0), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.12, 0.7, 0.72))
    axes.set_xscale("log")
    places = _side_by_side(axes, [num_bytes(spec, point) for point in points])
    styles = _styles(spec, dict.fromkeys(point.sizing for point in points))
    ends = {}
    for name, style in styles.items():
        line = [(x, p.score) for x, p in zip(places, points, strict=True) if p.sizing == name]
        _draw_line(axes, line, style)
        ends[name] = (line[-1][0], line[-1][1].mean)
    _label(axes, ends, styles)
    _name_budgets(axes, spec, points)
    _dress(axes, spec, recipe, points)
    return figure


def _side_by_side(axes: Axes, values: Sequence[float]) -> list[float]:
    """Limit the axis to the bytes, and move points of equal bytes so that no bar hides another."""
    room = max((max(values) / min(values)) ** 0.07, 1.12)
    low, high = min(values) / room, max(values) * room
    axes.set_xlim(low, high)
    shares = [math.log(value / low) / math.log(high / low) for value in values]
    order = sorted(range(len(shares)), key=shares.__getitem__)
    moved = spread([shares[index] for index in order], DODGE)
    places = dict(zip(order, moved, strict=True))
    return [low * (high / low) ** places[index] for index in range(len(values))]


def _styles(spec: CompareSpec, names: Iterable[str]) -> dict[str, Style]:
    """Colour and marker by sizing; the baseline is black, and the order of the spec decides."""
    others = [name for name in spec.sizings if name != spec.baseline]
    styles = {
        name: (COLOURS[place % len(COLOURS)], MARKERS[(place + 1) % len(MARKERS)])
        for place, name in enumerate(others)
    }
    styles[spec.baseline] = (INK, "o")
    return {name: styles[name] for name in names}


def _draw_line(axes: Axes, line: Sequence[tuple[float, Summary]], style: Style) -> None:
    """Draw one sizing with its intervals."""
    colour, marker = style
    means = [score.mean for _, score in line]
    axes.errorbar(
        [x for x, _ in line],
        means,
        yerr=[
            [score.mean - score.low for _, score in line],
            [score.high - score.mean for _, score in line],
        ],
        color=colour,
        marker=marker,
        markersize=5.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        linewidth=1.6,
        elinewidth=1.2,
        capsize=2.5,
        zorder=4 if colour == INK else 3,
    )


def _label(
    axes: Axes, ends: Mapping[str, tuple[float, float]], styles: Mapping[str, Style]
) -> None:
    """Name every line at the right edge, in the order of their ends, none over another."""
    low, high = axes.get_ylim()
    wanted = {name: (y - low) / (high - low) for name, (_, y) in ends.items()}
    order = sorted(wanted, key=lambda name: wanted[name])
    for name, place in zip(order, spread([wanted[name] for name in order], LABEL_GAP), strict=True):
        x, y = ends[name]
        axes.annotate(
            name,
            xy=(x, y),
            xycoords="data",
            xytext=(1.035, place),
            textcoords="axes fraction",
            color=styles[name][0],
            va="center",
            fontsize=9.5,
            arrowprops={
                "arrowstyle": "-",
                "color": styles[name][0],
                "linewidth": 0.6,
                "alpha": 0.45,
                "shrinkA": 1,
                "shrinkB": 5,
            },
            annotation_clip=False,
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places as near as possible to the wanted ascending ones, none closer than ``gap``."""
    # Groups that touch move as one, centred on what their members want.
    groups: list[tuple[list[float], float]] = []
    for value in wanted:
        members, centre = [value], value
        while groups and centre - groups[-1][1] < gap * (len(members) + len(groups[-1][0])) / 2:
            members = groups.pop()[0] + members
            centre = sum(members) / len(members)
        groups.append((members, centre))
    return [
        centre + (place - (len(members) - 1) / 2) * gap
        for members, centre in groups
        for place in range(len(members))
    ]


def _name_budgets(axes: Axes, spec: CompareSpec, points: Sequence[Point]) -> None:
    """Write above the picture where the baseline's budgets are."""
    for point in points:
        if point.sizing == spec.baseline and point.budget:
            axes.text(
                num_bytes(spec, point),
                1.012,
                point.budget.replace(":", " "),
                transform=axes.get_xaxis_transform(),
                ha="center",
                fontsize=8,
                color=FAINT,
            )


def _dress(axes: Axes, spec: CompareSpec, recipe: str, points: Sequence[Point]) -> None:
    """Title, axes and grid."""
    metric = points[0].metric
    seeds = sorted({point.score.n for point in points})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    direction = "lower" if metric in LOWER_IS_BETTER else "higher"
    title = f"{recipe}: quality against bytes"
    axes.set_title(title, loc="left", fontsize=12.5, color=INK, pad=34, weight="bold")
    note = f"mean of {count} seeds, bars are 95 % t-intervals; {direction} is better"
    axes.text(0, 1.065, note, transform=axes.transAxes, fontsize=9, color=FAINT)
    axes.set_ylabel(f"test {NAMES.get(metric, metric)}", color=INK)
    state = "with optimizer state" if spec.bytes == "training" else "fp32"
    axes.set_xlabel(f"{spec.bytes} bytes of tables and projections ({state})", color=INK)
    _mark_bytes(axes)
    axes.grid(True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)


def _mark_bytes(axes: Axes) -> None:
    """Ticks at powers of two, as many as can be read."""
    low, high = axes.get_xlim()
    powers = [p for p in range(0, 64) if low <= 2**p <= high]
    step = max(1, -(-len(powers) // 8))
    ticks = [2.0**p for p in powers[::step]] if len(powers) > 1 else [low, high]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: bytes_text(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def bytes_text(value: float) -> str:
    """Bytes in the largest unit that leaves a number of at least 1."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"
