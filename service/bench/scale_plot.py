"""The picture of ``mixdim bench scale``: examples per second against ranks, one line a plan."""

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from service.compare.plot_style import COLOURS, FAINT, MARKERS, dress

SIZE: Final = (7.2, 4.2)
"""Inches."""


def draw(lines: dict[str, list[tuple[int, float]]], title: str, note: str, path: Path) -> None:
    """Draw rates by plan, and the rate that perfect scaling of the fastest start would give.

    Args:
        lines: Ranks and examples per second, by plan.
        title: What is shown.
        note: How it was found.
        path: PNG or SVG file.
    """
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mixdim"}):
        figure = Figure(figsize=SIZE, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        dress(axes, title, note)
        first, rate = max((line[0] for line in lines.values()), key=lambda p: p[1] / p[0])
        last = max(ranks for line in lines.values() for ranks, _ in line)
        axes.loglog(
            (first, last), (rate, rate * last / first), "--", color=FAINT, linewidth=1, label="even"
        )
        for place, (name, line) in enumerate(lines.items()):
            axes.loglog(
                *zip(*line, strict=True), f"-{MARKERS[place]}", c=COLOURS[place], label=name
            )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("ranks")
        axes.set_ylabel("examples per second")
        axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else {})
