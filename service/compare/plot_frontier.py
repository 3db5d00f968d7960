"""The upper panel: bytes to the right, quality upward or downward, a line a sizing."""

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from service.compare.frontier import Point, num_bytes
from service.compare.plot_style import FAINT, INK, Style, kept_between, spread
from service.compare.spec import CompareSpec

LABEL_GAP: Final = 0.056
"""Least distance of two labels, as a share of the axis' height, where that many have room."""
LABEL_SIZE: Final = 9.5
LOWEST_LABEL, HIGHEST_LABEL = -0.1, 1.04
MAX_TICKS: Final = 8


def draw_frontier(
    axes: Axes, spec: CompareSpec, points: Sequence[Point], styles: Mapping[str, Style]
) -> None:
    """Draw every sizing's line, name it at its end, and name the baseline's budgets."""
    axes.set_xscale("log")
    budgets = budgets_of(spec, points)
    values = [*(num_bytes(spec, point) for point in points), *budgets.values()]
    room = max((max(values) / min(values)) ** 0.07, 1.12)
    axes.set_xlim(min(values) / room, max(values) * room)
    ends = {}
    for name, style in styles.items():
        line = [point for point in points if point.sizing == name]
        _draw_line(axes, spec, line, style)
        ends[name] = (num_bytes(spec, line[-1]), line[-1].score.mean)
    _label(axes, ends, styles)
    _name_budgets(axes, budgets)
    _mark_bytes(axes)
    state = "with optimizer state" if spec.bytes == "training" else "fp32"
    axes.set_xlabel(f"{spec.bytes} bytes of tables and projections ({state})", color=INK)


def _draw_line(axes: Axes, spec: CompareSpec, line: Sequence[Point], style: Style) -> None:
    colour, marker = style
    scores = [point.score for point in line]
    axes.errorbar(
        [num_bytes(spec, point) for point in line],
        [score.mean for score in scores],
        yerr=[
            [score.mean - score.low for score in scores],
            [score.high - score.mean for score in scores],
        ],
        color=colour,
        marker=marker,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.7,
        linewidth=1.5,
        elinewidth=1.1,
        capsize=2.5,
        zorder=4 if colour == INK else 3,
    )


def _label(
    axes: Axes, ends: Mapping[str, tuple[float, float]], styles: Mapping[str, Style]
) -> None:
    """Name every line at the right edge, in the order of their ends, none over another."""
    low, high = axes.get_ylim()
    wanted = {name: (y - low) / (high - low) for name, (_, y) in ends.items()}
    order = sorted(wanted, key=wanted.__getitem__)
    gap = min(LABEL_GAP, (HIGHEST_LABEL - LOWEST_LABEL) / max(len(order) - 1, 1))
    places = spread([wanted[name] for name in order], gap)
    places = kept_between(places, gap, LOWEST_LABEL, HIGHEST_LABEL)
    for name, place in zip(order, places, strict=True):
        axes.annotate(
            name,
            xy=ends[name],
            xycoords="data",
            xytext=(1.035, place),
            textcoords="axes fraction",
            color=styles[name][0],
            va="center",
            fontsize=LABEL_SIZE * gap / LABEL_GAP,
            arrowprops={
                "arrowstyle": "-",
                "color": styles[name][0],
                "linewidth": 0.6,
                "alpha": 0.45,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 5,
            },
            annotation_clip=False,
        )


def budgets_of(spec: CompareSpec, points: Sequence[Point]) -> dict[str, float]:
    """Bytes of the baseline's budgets; of its plans where the records do not say."""
    return {
        point.budget: point.budget_bytes or num_bytes(spec, point)
        for point in points
        if point.sizing == spec.baseline and point.budget
    }


def _name_budgets(axes: Axes, budgets: Mapping[str, float]) -> None:
    """Write above the picture where the budgets are."""
    for budget, num in budgets.items():
        axes.text(
            num,
            1.012,
            budget.replace(":", " "),
            transform=axes.get_xaxis_transform(),
            ha="center",
            fontsize=8,
            color=FAINT,
        )


def _mark_bytes(axes: Axes) -> None:
    """Ticks at powers of two, as many as can be read."""
    low, high = axes.get_xlim()
    powers = [power for power in range(64) if low <= 2**power <= high]
    step = max(1, -(-len(powers) // MAX_TICKS))
    axes.set_xticks([2.0**power for power in powers[::step]] if len(powers) > 1 else [low, high])
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
