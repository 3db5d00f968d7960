"""The frontier as a picture, one a recipe: quality against bytes, and paired differences below."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from service.compare.frontier import LOWER_IS_BETTER, Point
from service.compare.plot_differences import draw_differences
from service.compare.plot_frontier import draw_frontier
from service.compare.plot_style import INK, dress, styles_of
from service.compare.spec import CompareSpec

NAMES: Final[Mapping[str, str]] = {
    "mse": "MSE",
    "rmse": "RMSE",
    "auc": "AUC",
    "log_loss": "log loss",
    "ne": "normalised entropy",
}
WIDTH: Final = 8.6
UPPER_HEIGHT: Final = 5.0
LOWER_HEIGHT: Final = 3.1
"""Inches of the panels, titles included."""


def draw(spec: CompareSpec, points: Sequence[Point]) -> list[Path]:
    """Draw ``frontier-RECIPE.png`` and ``.svg`` of every recipe that has scores."""
    paths = []
    drawn = [point for point in points if point.score.n and not point.dtype]
    for recipe in dict.fromkeys(point.recipe for point in drawn):
        of_recipe = [point for point in drawn if point.recipe == recipe]
        # Text stays text in SVG, and the same points make the same bytes.
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mixdim"}):
            figure = _figure(spec, recipe, of_recipe)
            for ending in ("png", "svg"):
                path = spec.output / f"frontier-{recipe}.{ending}"
                figure.savefig(path, dpi=160, metadata={"Date": None} if ending == "svg" else {})
                paths.append(path)
    return paths


def _figure(spec: CompareSpec, recipe: str, points: Sequence[Point]) -> Figure:
    has_differences = any(point.difference is not None for point in points)
    height = UPPER_HEIGHT + (LOWER_HEIGHT if has_differences else 0)
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    styles = styles_of(spec, dict.fromkeys(point.sizing for point in points))
    metric = points[0].metric
    name = NAMES.get(metric, metric)
    better = "lower" if metric in LOWER_IS_BETTER else "higher"
    seeds = sorted({point.score.n for point in points})
    count = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    spread = "1 seed, no spread" if seeds == [1] else f"{count}, bars are 95 % t-intervals"

    upper = figure.add_axes((0.1, 1 - (UPPER_HEIGHT - 0.6) / height, 0.67, 3.6 / height))
    draw_frontier(upper, spec, points, styles)
    dress(upper, f"{recipe}: quality against bytes", f"{spread}; {better} is better")
    upper.set_ylabel(f"{points[0].split} {name}", color=INK)
    if has_differences:
        lower = figure.add_axes((0.1, 0.4 / height, 0.67, 2.0 / height))
        draw_differences(lower, spec, points, styles)
        side = "below" if better == "lower" else "above"
        note = f"paired by seed, 95 % t-intervals; {side} the line is better"
        dress(lower, f"at the same budget, compared with {spec.baseline}", note)
        lower.grid(False, axis="x")
        lower.set_ylabel(f"{name} minus {spec.baseline}", color=INK)
    return figure
