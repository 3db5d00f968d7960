"""What becomes of the dense layers: the same, but for inputs that came, went or were turned.

An axis of a weight that counts fields, elements of a vector or dots of pairs is taken apart into
what the old and the new network both have. What only the new one has starts as it would in a new
network where its inputs are zero, as of wider tables and new fields, and at zero where they are
not: so a layer says what it said. New elements of a dense vector start as a constant.
"""

# Shapes:  D width of a field's vectors before, T width after

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.base import Axis
from models.sizing.spectral import Floats
from service.resize.turns import Turn
from service.warm_up import Vectors

DENSE: Final = "the dense vector"

Places = NDArray[np.int64]
"""Positions along an axis."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an axis that both networks have."""

    old: Places
    new: Places
    weights: Floats | None = None
    """``(D, T)``, what weights are contracted with; None where they are taken as they are."""
    moments: Floats | None = None
    """``(D, T)``, the same of their first moments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The fields of a network in order, as its layers count them."""

    old: Mapping[str, int]
    """``D`` by field."""
    new: Mapping[str, int]
    """``T`` by field."""
    turns: Mapping[str, Turn]
    """Of every field in both."""

    def parts(self, axis: Axis, old_size: int, new_size: int) -> list[Part]:
        """Take an axis apart.

        Raises:
            ValueError: If the network itself has another size.
        """
        if axis == "fields":
            return self._side_by_side(old_size, new_size)
        if axis in ("vector", "factors"):
            return _merged([self._vector(makes=True)])
        if axis == "dots":
            return _merged([self._vector(makes=False), self._pairs()])
        return [_rest(0, old_size, 0, new_size)]

    def _side_by_side(self, old_size: int, new_size: int) -> list[Part]:
        old_at, new_at = _starts(self.old), _starts(self.new)
        parts = [
            _turned(self.turns[name], old_at[name], new_at[name], makes=False)
            for name in self.new
            if name in self.turns
        ]
        behind = _rest(sum(self.old.values()), old_size, sum(self.new.values()), new_size)
        return _merged([*parts, behind])

    def _vector(self, *, makes: bool) -> Part:
        """A vector of ``D`` elements, which all fields' turns turn alike."""
        return _turned(next(iter(self.turns.values())), 0, 0, makes=makes)

    def _pairs(self) -> Part:
        """Dots behind the vector, in the row order of the upper triangle."""
        both = [
            {
                frozenset(pair): max(fields.values()) + place
                for place, pair in enumerate(combinations((DENSE, *fields), 2))
            }
            for fields in (self.old, self.new)
        ]
        shared = [pair for pair in both[1] if pair in both[0]]
        old, new = (np.array([places[pair] for pair in shared], dtype=np.int64) for places in both)
        return Part(old, new)


def converted(
    old: Vectors, start: Vectors, axes: Sequence[Axis], fields: Fields, *, name: str
) -> Vectors:
    """A weight for the new network.

    Args:
        old: The old network's.
        start: How it would start in a new one.
        axes: What its axes count.
        fields: The fields.
        name: Its name, for messages.
    """
    new = start.copy()
    parts = _all_parts(old, start, axes, fields, name)
    for axis, (kind, of_axis) in enumerate(zip(axes, parts, strict=True)):
        if kind in ("plain", "fields"):
            continue
        vector = np.arange(max(fields.new.values()))
        fresh = np.setdiff1d(vector, np.concatenate([part.new for part in of_axis]))
        # A ReLU makes the vector, and random weights may never open it: a constant does.
        opens = kind == "vector" and new.ndim == 1
        np.moveaxis(new, axis, 0)[fresh] = len(vector) ** -0.5 if opens else 0.0
    return _filled(new, old, parts, "weights")


def converted_moment(
    old: Vectors, start: Vectors, axes: Sequence[Axis], fields: Fields, *, name: str, squared: bool
) -> Vectors:
    """A moment of a weight's gradient for the new network; zero where the weight is new.

    Args:
        old: The old network's.
        start: The new weight.
        axes: What its axes count.
        fields: The fields.
        name: Its name, for messages.
        squared: Whether it is a second moment.
    """
    parts = _all_parts(old, start, axes, fields, name)
    if squared:
        parts = [
            [
                part
                if part.moments is None
                else Part(part.old, part.new, part.weights, np.square(part.moments))
                for part in of_axis
            ]
            for of_axis in parts
        ]
    return _filled(np.zeros_like(start), old, parts, "moments")


def _all_parts(
    old: Vectors, start: Vectors, axes: Sequence[Axis], fields: Fields, name: str
) -> list[list[Part]]:
    try:
        return [
            fields.parts(kind, *sizes)
            for kind, *sizes in zip(axes, old.shape, start.shape, strict=True)
        ]
    except ValueError as error:
        raise ValueError(
            f"layer {name} is {old.shape} in the run and {start.shape} here ({error}); give the "
            f"same network, --network.*, and the same dense columns"
        ) from error


def _filled(new: Vectors, old: Vectors, parts: Sequence[Sequence[Part]], which: str) -> Vectors:
    for chosen in product(*parts):
        values: NDArray[np.floating] = old[np.ix_(*(part.old for part in chosen))]
        for axis, part in enumerate(chosen):
            matrix: Floats | None = getattr(part, which)
            if matrix is not None:
                values = np.moveaxis(np.moveaxis(values, axis, -1) @ matrix, -1, axis)
        new[np.ix_(*(part.new for part in chosen))] = values
    return new


def _turned(turn: Turn, old_at: int, new_at: int, *, makes: bool) -> Part:
    """A field's vector on an axis that reads it, or makes one that meets it."""
    width, target = turn.ahead.shape
    old = np.arange(old_at, old_at + width)
    if turn.is_kept:
        return Part(old, np.arange(new_at, new_at + width))
    held = min(width, target)  # zeros behind are new inputs, as of fields that are not turned
    new = np.arange(new_at, new_at + held)
    ahead, back = turn.ahead[:, :held], turn.back[:held].T
    return Part(old, new, ahead, back) if makes else Part(old, new, back, ahead)


def _rest(old_at: int, old_size: int, new_at: int, new_size: int) -> Part:
    if old_size - old_at != new_size - new_at:
        raise ValueError(f"{old_size - old_at} other inputs or outputs, now {new_size - new_at}")
    return Part(np.arange(old_at, old_size), np.arange(new_at, new_size))


def _merged(parts: Sequence[Part]) -> list[Part]:
    """One part of all that stays as it is, which is copied at once."""
    plain = [part for part in parts if part.weights is None]
    old, new = (
        np.concatenate([np.array([], dtype=np.int64), *(getattr(part, side) for part in plain)])
        for side in ("old", "new")
    )
    return [Part(old, new), *(part for part in parts if part.weights is not None)]


def _starts(widths: Mapping[str, int]) -> dict[str, int]:
    ends = np.cumsum([0, *widths.values()])
    return {name: int(start) for name, start in zip(widths, ends[:-1], strict=True)}
