"""What NIS chooses among: rectangles of a table's grid of row and column blocks.

Every field has some *decisions*, each with some *options*; an option switches cells of the grid on.
*Single-size*: one decision, all columns up to one block, for all rows up to another, or nothing.
*Multi-size*: one decision a column block, for how many of the row blocks it is there.
The first option switches on all there is.
"""

# Legend: S row blocks of a field, T column blocks, J decisions, K options of a decision

from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.search.row_blocks import Profile

Sizes = Literal["single", "multi"]

Cells = NDArray[np.bool_]


def cells_of(sizes: Sizes, num_rows: int, num_columns: int) -> Cells:
    """Which cells of the grid every option of every decision switches on, ``(J, K, S, T)``."""
    if sizes == "single":
        corners = [*product(range(num_rows, 0, -1), range(num_columns, 0, -1)), (0, 0)]
        cells = np.zeros((1, len(corners), num_rows, num_columns), dtype=bool)
        for option, (rows, columns) in enumerate(corners):
            cells[0, option, :rows, :columns] = True
        return cells
    cells = np.zeros((num_columns, num_rows + 1, num_rows, num_columns), dtype=bool)
    for column, option in product(range(num_columns), range(num_rows + 1)):
        cells[column, option, : num_rows - option, column] = True
    return cells


def profiles(
    log_shares: NDArray[np.float64], cells: Cells, column_width: int
) -> dict[Profile, float]:
    """Every profile that can come of a field's decisions, and the log share of the likeliest way.

    Args:
        log_shares: Of every option ``(J, K)``.
        cells: What options switch on ``(J, K, S, T)``.
        column_width: Columns of a block.
    """
    found: dict[Profile, float] = {(0,) * cells.shape[2]: 0.0}
    for shares, widths in zip(log_shares, cells.sum(axis=3) * column_width, strict=True):
        before, found = found, {}
        for (profile, value), (share, more) in product(
            before.items(), zip(shares.tolist(), widths.tolist(), strict=True)
        ):
            total = tuple(width + by for width, by in zip(profile, more, strict=True))
            found[total] = max(found.get(total, -np.inf), value + share)
    return found


def reward(quality: float, cost_ratio: float, budget_ratio: float, penalty: float) -> float:
    """``quality - penalty * max(0, cost / budget - 1)``; cost and budget in the same unit."""
    return quality - penalty * max(0.0, cost_ratio / budget_ratio - 1)
