"""How the vectors of every field change behind their projections, before any table is looked at.

Vectors that get wider get zeros. Vectors that get narrower lose directions, and which they can
lose without another meaning is the network's to say: where fields are multiplied axis by axis, all
are rotated alike (the two fields of a factorization so that their dots are kept best), so that the
strongest axes come first; where they stand side by side, each is rotated by itself, in the metric
of the layers that read it; where single coordinates have a meaning, the strongest ones are picked.
Padded tables have the first columns of what a wide one has: a rotation then keeps to the columns
between two widths, so that a table that is not cut loses nothing.
"""

# Shapes:  D width of a field's vectors before, T width after

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from models.sizing.spectral import Floats, balanced_pair, directions

TurnKind = Literal["kept", "rotated", "picked"]

Moments = Mapping[str, Floats]
"""Per field ``(D, D)``: second moment of its vectors, each id weighted by its lookups."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How the vectors of one field change."""

    ahead: Floats
    """``(D, T)``: new vectors are the old ones times this."""
    back: Floats
    """``(T, D)``: what the old ones were, as far as the new ones tell."""
    kind: TurnKind = "kept"

    @property
    def is_kept(self) -> bool:
        """Whether vectors are what they were, perhaps with zeros behind."""
        return self.kind == "kept" and self.ahead.shape[0] <= self.ahead.shape[1]


def kept(width: int, target: int) -> Turn:
    """The same vectors, with zeros behind or the last columns cut off."""
    return Turn(np.eye(width, target), np.eye(target, width))


@dataclass(frozen=True, kw_only=True, slots=True)
class Widths:
    """What decides where vectors are cut."""

    before: Mapping[str, int]
    """``D`` by field."""
    after: Mapping[str, int]
    """``T`` by field."""
    edges: Sequence[int] = ()
    """Widths that padded tables had: columns on either side of one must not be mixed."""
    cuts: Sequence[int] = ()
    """Widths that padded tables are cut at."""
    fixed: int = 0
    """Leading columns that are biases, and no factors."""


def aligned_turns(
    widths: Widths, moments: Moments, *, is_turnable: bool, is_pair: bool
) -> dict[str, Turn]:
    """Turns of fields that are compared axis by axis: what one turns, all turn.

    Args:
        widths: All fields equally wide, before and after.
        moments: Only read where something is cut.
        is_turnable: Whether axes may be mixed.
        is_pair: Whether the dot of two fields is all there is.
    """
    (width,), (target,) = set(widths.before.values()), set(widths.after.values())
    cuts = {cut for cut in (target, *widths.cuts) if cut < width}
    edges = sorted({0, widths.fixed, width, *widths.edges})
    ahead = {name: np.eye(width) for name in widths.before}
    kind: TurnKind = "kept"
    for first, end in pairwise(edges):
        if end > widths.fixed and any(first < cut < end for cut in cuts):
            part = {name: moment[first:end, first:end] for name, moment in moments.items()}
            kind = "rotated" if is_turnable else "picked"
            turns = common_turn(part, is_turnable=is_turnable, is_pair=is_pair)
            for name, turn in turns.items():
                ahead[name][first:end, first:end] = turn
    cut = kept(width, target)
    return {
        name: Turn(turn @ cut.ahead, cut.back @ np.linalg.inv(turn), kind)
        for name, turn in ahead.items()
    }


def own_turns(
    widths: Widths, moments: Moments, readers: Moments, *, is_turnable: bool
) -> dict[str, Turn]:
    """Turns of fields that stand side by side: each by itself, and only where it gets narrower.

    Args:
        widths: Before and after.
        moments: Only read for fields that get narrower.
        readers: By field, second moment of the weights that read it.
        is_turnable: Whether axes may be mixed.
    """
    turns = {}
    for name, width in widths.before.items():
        target = widths.after[name]
        if target >= width:
            turns[name] = kept(width, target)
        elif is_turnable:
            turns[name] = _narrowed(moments[name], readers[name], target)
        else:
            turns[name] = _picked(moments[name], target)
    return turns


def _narrowed(moment: Floats, readers: Floats, target: int) -> Turn:
    """The directions that what reads a field notices most, at right angles."""
    down, up = directions(moment, readers)
    axes, mix = np.linalg.qr(up[:target].T)
    return Turn(down[:, :target] @ mix.T, axes.T, "rotated")


def _picked(moment: Floats, target: int) -> Turn:
    strongest = np.eye(len(moment))[:, np.sort(_by_energy(moment)[:target])]
    return Turn(strongest, strongest.T, "picked")


def common_turn(moments: Moments, *, is_pair: bool, is_turnable: bool = True) -> dict[str, Floats]:
    """One square turn for all, the strongest axes first.

    Args:
        moments: By field; every field counts alike, however long its vectors are.
        is_pair: Whether the dot of two fields is all there is, which has a best approximation: each
            then has a turn of its own, and their dots stay.
        is_turnable: Whether axes may be mixed; else they are only sorted.
    """
    traces = {name: float(np.trace(moment)) for name, moment in moments.items()}
    if is_turnable and is_pair and all(trace > 0 for trace in traces.values()):
        first, second = moments
        pair = balanced_pair(moments[first], moments[second], len(moments[first]))
        return {first: pair[0], second: pair[1]}
    total = np.asarray(
        sum(moment / trace for name, moment in moments.items() if (trace := traces[name]) > 0)
        + np.zeros_like(next(iter(moments.values())))
    )
    turn = directions(total)[0] if is_turnable else np.eye(len(total))[:, _by_energy(total)]
    return dict.fromkeys(moments, turn)


def _by_energy(moment: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Coordinates, the strongest first; among equals in their order."""
    return np.argsort(-np.diag(moment), kind="stable")
