"""From the width that a rule asks for to a width that a table can have."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.tables import WIDTH_STEP

Rounding = Literal["mult4", "int", "pow2"]
"""``mult4`` suits fused kernels; ``int`` and ``pow2`` are the papers' and need unfused tables."""


def width_grid(rounding: Rounding, low: int, high: int) -> list[int]:
    """Every width from ``low`` to ``high`` that a rounding can give, ascending."""
    if rounding == "int":
        return list(range(low, high + 1))
    if rounding == "pow2":
        return [2**power for power in range(high.bit_length()) if low <= 2**power <= high]
    return [width for width in range(WIDTH_STEP, high + 1, WIDTH_STEP) if width >= low]


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


def round_up(asked: float) -> int:
    """Smallest multiple of 4 that is at least ``asked``, and at least 4."""
    return max(WIDTH_STEP, math.ceil(asked / WIDTH_STEP) * WIDTH_STEP)


def dlrm_pow2(asked: float) -> int:
    """Round to an integer first and to a power of two next, as DLRM's reference code does.

    11.4 becomes 8 here and 16 by ``round_dim(..., "pow2")``, whose boundary is ``sqrt(8 * 16)``.
    """
    return int(2 ** round(math.log2(max(1, math.floor(asked + 0.5)))))
