"""The lower panel: every sizing against the baseline at equal bytes, paired by seed."""

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes

from service.compare.frontier import Point
from service.compare.plot_frontier import budgets_of
from service.compare.plot_style import INK, Style
from service.compare.spec import CompareSpec

GROUP_WIDTH: Final = 0.62
"""Part of a budget's place that its points take."""


def draw_differences(
    axes: Axes, spec: CompareSpec, points: Sequence[Point], styles: Mapping[str, Style]
) -> None:
    """Draw the difference of every sizing, side by side for every budget."""
    compared = [point for point in points if point.difference is not None]
    names = [name for name in styles if any(point.sizing == name for point in compared)]
    of_budgets = budgets_of(spec, points)
    asked = dict.fromkeys(point.budget for point in compared)
    budgets = sorted(asked, key=of_budgets.__getitem__)
    axes.axhline(0, color=INK, linewidth=1.2)
    for place, name in enumerate(names):
        shift = ((place + 0.5) / len(names) - 0.5) * GROUP_WIDTH
        of_name = {p.budget: d for p in compared if p.sizing == name and (d := p.difference)}
        colour, marker = styles[name]
        axes.errorbar(
            [budgets.index(budget) + shift for budget in of_name],
            [difference.mean for difference in of_name.values()],
            yerr=[
                [difference.mean - difference.low for difference in of_name.values()],
                [difference.high - difference.mean for difference in of_name.values()],
            ],
            color=colour,
            marker=marker,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.7,
            linestyle="none",
            elinewidth=1.4,
            capsize=3,
        )
    for between in range(1, len(budgets)):
        axes.axvline(between - 0.5, color="#d0d0d0", linewidth=0.8)
    axes.set_xlim(-0.5, len(budgets) - 0.5)
    axes.set_xticks(range(len(budgets)), [budget.replace(":", " ") for budget in budgets])
    axes.tick_params(axis="x", length=0)
