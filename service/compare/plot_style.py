"""What both panels of the picture share: colours, markers, and labels that keep their distance."""

from collections.abc import Iterable, Sequence
from typing import Final

from matplotlib.axes import Axes

from service.compare.spec import CompareSpec

INK: Final = "#222222"
FAINT: Final = "#8a8a8a"
COLOURS: Final = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7f3c8d", "#8c6d31", "#4c566a", "#b22222"),
)
"""Okabe and Ito's palette, which colour-blind readers can tell apart, then darker ones."""
MARKERS: Final = "osD^vPX<>*"

Style = tuple[str, str]
"""Colour and marker."""


def styles_of(spec: CompareSpec, names: Iterable[str]) -> dict[str, Style]:
    """Colour and marker by sizing; the baseline is black, and the order of the spec decides.

    Runs may be drawn that the spec no longer asks for; theirs come last.
    """
    names = list(names)
    others = [name for name in dict.fromkeys([*spec.sizings, *names]) if name != spec.baseline]
    styles = {
        name: (COLOURS[place % len(COLOURS)], MARKERS[(place + turn + 1) % len(MARKERS)])
        for place, name in enumerate(others)
        for turn in [place // len(COLOURS)]  # colours come again with other markers
    }
    styles[spec.baseline] = (INK, "o")
    return {name: styles[name] for name in names}


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


def kept_between(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places, moved no more than it takes to be within bounds and ``gap`` apart still."""
    most = high - gap * (len(places) - 1)
    return [
        min(max(place - index * gap, low), most) + index * gap for index, place in enumerate(places)
    ]


def dress(axes: Axes, title: str, note: str) -> None:
    """Title, a note below it, a faint grid and no box."""
    for text, size, colour, points in ((title, 12, INK, 38), (note, 9, FAINT, 22)):
        axes.annotate(
            text,
            xy=(0, 1),
            xycoords="axes fraction",
            xytext=(0, points),
            textcoords="offset points",
            fontsize=size,
            color=colour,
            weight="bold" if text == title else "normal",
        )
    axes.grid(True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
