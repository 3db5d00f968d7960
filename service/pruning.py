"""The magnitude below which a run's weights are left out, exact to the last bit, in two passes.

The bits of a positive float32 rise with it. The first pass counts the upper halves of all weights'
bits, the second the lower halves of those that have the upper half on the border.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.warm_up import WarmUp

Counts = npt.NDArray[np.int64]
Fits = Callable[[Mapping[str, int]], bool]
"""Whether so many weights by field are few enough; if so, then fewer are as well."""

HALF: Final = 16
"""Bits that a pass looks at."""
MAGNITUDE: Final = np.uint32(0x7FFF_FFFF)
"""All bits but the sign."""
CHUNK_ROWS: Final = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What stays of a run's weights."""

    threshold: float
    """Smaller weights are left out; 0 where all fit."""
    kept: dict[str, int]
    """By field, how many stay."""


def lowest_cut(warm_up: WarmUp, fields: Sequence[str], fits: Fits) -> Cut | None:
    """The lowest threshold, one for all fields, whose remaining weights are few enough.

    Args:
        warm_up: The run.
        fields: Those that lose weights.
        fits: Judges numbers of weights that are not zero.

    Returns:
        None where not even nothing fits.
    """
    upper = _suffixes({name: _counts(warm_up, name, None) for name in fields})
    border = _first_fitting(upper, fits)
    if border is None:
        return None
    if border == 0:
        return Cut(threshold=0.0, kept=_at(upper, 0))
    above = _at(upper, border)
    lower = _suffixes({name: _counts(warm_up, name, border - 1) for name in fields})
    both = {name: counts + above[name] for name, counts in lower.items()}
    lowest = _first_fitting(both, fits)
    assert lowest is not None  # behind the last one there are only those above the border
    bits = np.uint32(((border - 1) << HALF) + lowest)
    return Cut(threshold=float(bits.view(np.float32)), kept=_at(both, lowest))


def _counts(warm_up: WarmUp, field: str, upper: int | None) -> Counts:
    """Weights by the upper half of their bits, or by the lower one of those with this upper one."""
    counts = np.zeros(1 << HALF, dtype=np.int64)
    num_ids = sum(block.num_ids for block in warm_up.plan.fields[field])
    for _, vectors in warm_up.pieces(field, 0, num_ids):
        for low in range(0, len(vectors), CHUNK_ROWS):
            bits = vectors[low : low + CHUNK_ROWS].view(np.uint32).ravel() & MAGNITUDE
            if upper is not None:
                bits = bits[bits >> HALF == upper]
            halves = bits >> HALF if upper is None else bits & 0xFFFF
            counts += np.bincount(halves, minlength=1 << HALF)
    return counts


def _suffixes(counts: Mapping[str, Counts]) -> dict[str, Counts]:
    """By position, how many are there or behind; one position more, behind which is nothing."""
    return {
        name: np.append(np.cumsum(own[::-1])[::-1], 0).astype(np.int64)
        for name, own in counts.items()
    }


def _first_fitting(left: Mapping[str, Counts], fits: Fits) -> int | None:
    last = 1 << HALF
    if not fits(_at(left, last)):
        return None
    return bisect_left(range(last), True, key=lambda place: fits(_at(left, place)))


def _at(left: Mapping[str, Counts], place: int) -> dict[str, int]:
    return {name: int(counts[place]) for name, counts in left.items()}
