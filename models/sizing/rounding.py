"""From the width that a rule asks for to a width that a table can have."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.tables import PACKED_DIMS, WIDTH_STEP

Rounding = Literal["mult4", "pow2", "int"]
"""``mult4`` gives what fused kernels take: 1, 2 and multiples of 4. ``pow2`` gives powers of two,
which suit them too and make fewer kernel groups. ``int`` gives any width, for dense tables only."""


def width_grid(rounding: Rounding, low: int, high: int) -> list[int]:
    """Every width from ``low`` to ``high`` that a rounding can give, ascending."""
    if rounding == "int":
        return list(range(low, high + 1))
    if rounding == "pow2":
        return [2**power for power in range(high.bit_length()) if low <= 2**power <= high]
    return [
        width
        for width in (*PACKED_DIMS, *range(WIDTH_STEP, high + 1, WIDTH_STEP))
        if low <= width <= high
    ]


def midpoints(grid: Sequence[int], rounding: Rounding) -> NDArray[np.float64]:
    """Asked widths at which rounding passes to the next of ``grid``; one fewer than ``grid``."""
    below, above = np.asarray(grid[:-1], dtype=float), np.asarray(grid[1:], dtype=float)
    between: NDArray[np.float64] = (
        np.sqrt(below * above) if rounding == "pow2" else (below + above) / 2
    )
    return between


def round_dim(asked: float, grid: Sequence[int], rounding: Rounding = "mult4") -> int:
    """Width of ``grid`` nearest to ``asked``; halfway goes up, outside is clamped."""
    return grid[int(np.searchsorted(midpoints(grid, rounding), asked, side="right"))]


def round_up(asked: float, rounding: Rounding = "mult4") -> int:
    """Narrowest width that a rounding can give and that is at least ``asked``, and at least 1."""
    least = max(1, math.ceil(asked))
    if rounding == "int":
        return least
    if rounding == "pow2":
        return 1 << (least - 1).bit_length()
    return least if least in PACKED_DIMS else -(-least // WIDTH_STEP) * WIDTH_STEP


def dlrm_pow2(asked: float) -> int:
    """Round to an integer first and to a power of two next, as DLRM's reference code does.

    11.4 becomes 8 here and 16 by ``round_dim(..., "pow2")``, whose boundary is ``sqrt(8 * 16)``.
    """
    return int(2 ** round(math.log2(max(1, math.floor(asked + 0.5)))))
