"""The best scale of a shape that a budget allows, found exactly.

A scheme asks for real-valued widths; scaled by one factor and rounded they become a plan. The cost
of that plan is a step function of the factor, and not a rising one: a table that reaches the width
of the widest needs no projection any more. So every factor at which some width changes is visited.
"""

# Legend: G groups of tables that ask for the same width, E events (a group passes to its next
# width), states are what holds after 0..E events.

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.sizing.rounding import Rounding, midpoints
from models.tables import PACKED_DIMS, WIDTH_STEP

Ints = NDArray[np.int64]
Amount = TypeVar("Amount", int, Ints)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a plan costs, in any unit: bytes, or parameters where all rates are 1."""

    per_weight: int = 1
    """Of one element of a table, optimizer state included."""

    per_row: int = 0
    """Of one row of a table, whatever its width."""

    per_projection_weight: int = 1
    """Of one element of a projection, optimizer state included."""

    packed: bool = False
    """Whether tables are counted as `Table.stored` allocates them, whole rows of 4 at least."""

    def of_tables(self, rows: Ints | np.int64, dims: Ints) -> Ints:
        """Cost of tables and their optimizer's state; shapes broadcast."""
        packing = np.where(np.isin(dims, PACKED_DIMS), WIDTH_STEP // dims, 1) if self.packed else 1
        stored: Ints = -(-rows // packing) * self.of_row(dims * packing)
        return stored

    def of_row(self, dims: Ints) -> Ints:
        """Cost of one stored row of this width."""
        return dims * self.per_weight + self.per_row


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """Tables that share a budget, grouped by the width they ask for, widest first.

    Tables that ask for the same width get the same width: nothing else would be independent of
    their order, and a uniform shape stays uniform.
    """

    asked: NDArray[np.float64]  # (G,) falling
    rows: Ints  # (G,) rows of all tables of the group
    stored: Ints  # (G, widths) cost of the group's tables at every width, without projections
    counts: Ints  # (G,) tables of the group
    group_of: Ints  # (tables,)
    grid: Sequence[int]
    cost: Cost
    rounding: Rounding = "mult4"
    out_dim: int | None = None
    """Width after projection; None where it is the widest table's."""

    @classmethod
    def of(
        cls,
        num_embeddings: Sequence[int],
        asked: Sequence[float],
        *,
        grid: Sequence[int],
        cost: Cost,
        rounding: Rounding = "mult4",
        out_dim: int | None = None,
    ) -> "Tables":
        """Group tables by what they ask for."""
        wishes, inverse = np.unique(-np.asarray(asked, dtype=float), return_inverse=True)
        each, dims = np.asarray(num_embeddings, dtype=np.int64), np.asarray(grid, dtype=np.int64)
        rows = np.zeros(len(wishes), dtype=np.int64)
        np.add.at(rows, inverse, each)
        stored = np.zeros((len(wishes), len(dims)), dtype=np.int64)
        np.add.at(stored, inverse, cost.of_tables(each[:, None], dims))
        return cls(
            asked=-wishes,
            rows=rows,
            stored=stored,
            counts=np.bincount(inverse).astype(np.int64),
            group_of=inverse.astype(np.int64),
            grid=grid,
            cost=cost,
            rounding=rounding,
            out_dim=out_dim,
        )

    def total_cost(
        self, stored: Amount, sum_dims: Amount, widest: Amount, at_widest: Amount
    ) -> Amount:
        """Cost of states given by their sums; ``at_widest`` tables need no projection."""
        return stored + self.cost.per_projection_weight * widest * (sum_dims - widest * at_widest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """Every plan that one scale can give, from all tables narrowest to all widest."""

    tables: Tables
    scales: NDArray[np.float64]  # (E + 1,) smallest factor of the state
    groups: Ints  # (E,) which group each event widens
    params: Ints  # (E + 1,) embedding parameters
    costs: Ints  # (E + 1,)
    whole: NDArray[np.bool_]  # (E + 1,) no other event has the same factor and is still to come

    def last_within(self, budget: int) -> int | None:
        """Widest state that the budget pays for, or None."""
        fitting = np.flatnonzero(self.whole & (self.costs <= budget))
        return int(fitting[-1]) if len(fitting) else None

    def cheapest(self) -> int:
        """Cost of the cheapest state."""
        return int(self.costs[self.whole].min())

    def params_after(self, state: int) -> float:
        """Embedding parameters of the next wider state, infinitely many at the end."""
        later = np.flatnonzero(self.whole[state + 1 :])
        return float(self.params[state + 1 + later[0]]) if len(later) else math.inf

    def levels(self, state: int) -> Ints:
        """Index into the grid of every group."""
        return np.bincount(self.groups[:state], minlength=len(self.tables.asked)).astype(np.int64)


def trace(tables: Tables) -> Path:
    """Visit every factor at which a rounded width changes."""
    steps = len(tables.grid) - 1
    with np.errstate(divide="ignore"):  # asking for nothing: never widened
        factors = midpoints(tables.grid, tables.rounding) / tables.asked[:, None]  # (G, steps)
    flat = factors.ravel()
    order = np.argsort(flat, kind="stable")
    order = order[np.isfinite(flat[order])]
    groups, step = np.divmod(order, max(steps, 1))
    grid = np.asarray(tables.grid, dtype=np.int64)
    rise = grid[step + 1] - grid[step]
    params = _running(tables.rows.sum() * grid[0], tables.rows[groups] * rise)
    dearer = tables.stored[groups, step + 1] - tables.stored[groups, step]
    stored = _running(tables.stored[:, 0].sum(), dearer)
    sum_dims = _running(tables.counts.sum() * grid[0], tables.counts[groups] * rise)
    reached = np.concatenate([grid[:1], grid[step + 1]])
    arrivals = np.concatenate([tables.counts.sum(keepdims=True), tables.counts[groups]])
    widest, at_widest = _at_widest(reached, arrivals, tables.out_dim)
    scales = np.concatenate([[0.0], flat[order]])
    return Path(
        tables=tables,
        scales=scales,
        groups=groups,
        params=params,
        costs=tables.total_cost(stored, sum_dims, widest, at_widest),
        whole=np.append(scales[1:] != scales[:-1], True),
    )


def _running(first: int, increments: Ints) -> Ints:
    return np.cumsum(np.concatenate([[first], increments]), dtype=np.int64)


def _at_widest(reached: Ints, arrivals: Ints, out_dim: int | None) -> tuple[Ints, Ints]:
    """Width after projection in every state, and the number of tables that have it."""
    if out_dim is not None:
        there = np.cumsum(np.where(reached == out_dim, arrivals, 0))
        return np.full_like(reached, out_dim), there
    widest = np.maximum.accumulate(reached)
    running = np.cumsum(np.where(reached == widest, arrivals, 0))
    # Nobody has a width before it is the widest, so counting restarts whenever it grows.
    starts = np.flatnonzero(np.append(True, widest[1:] != widest[:-1]))
    before = np.concatenate([[0], running[starts[1:] - 1]])
    return widest, running - np.repeat(before, np.diff(np.append(starts, len(widest))))


@dataclass(frozen=True, slots=True)
class _Totals:
    """Sums from which a state's cost follows."""

    params: int
    stored: int
    sum_dims: int
    widest: int
    at_widest: int

    def widened(self, tables: Tables, group: int, level: int) -> "_Totals":
        """The sums after one group has risen by one level."""
        width, rise = tables.grid[level + 1], tables.grid[level + 1] - tables.grid[level]
        count, tied = int(tables.counts[group]), tables.out_dim is None
        grows = tied and width > self.widest
        widest = width if grows else self.widest
        stayed = 0 if grows else self.at_widest
        arrived = count if width == widest else 0
        return _Totals(
            self.params + int(tables.rows[group]) * rise,
            self.stored + int(tables.stored[group, level + 1] - tables.stored[group, level]),
            self.sum_dims + count * rise,
            widest,
            stayed + arrived,
        )

    def cost(self, tables: Tables) -> int:
        """What the state costs."""
        return tables.total_cost(self.stored, self.sum_dims, self.widest, self.at_widest)


def fill(path: Path, state: int, budget: int) -> list[int]:
    """Spend what a state leaves of the budget; the width of every table, in the given order.

    One step at a time, the group that is furthest below its wish rises, as long as the budget pays.
    Two rules keep the result sane. A group that cannot rise holds back those that ask for less, so
    the order of wishes stays the order of widths. And the parameters of a step that was refused
    are a ceiling for what follows, so that a larger budget never ends with fewer parameters.
    """
    tables, grid = path.tables, list(path.tables.grid)
    levels = path.levels(state)
    totals = _totals(tables, levels)
    ceiling = path.params_after(state)
    highest = np.full(len(levels), len(grid) - 1)
    waiting = [(-tables.asked[g] / grid[level], g) for g, level in enumerate(levels)]
    heapq.heapify(waiting)
    while waiting:
        _, group = heapq.heappop(waiting)
        level = int(levels[group])
        if level >= highest[group] or not tables.asked[group]:
            continue
        raised = totals.widened(tables, group, level)
        if raised.cost(tables) > budget or raised.params > ceiling:
            ceiling = min(ceiling, raised.params)
            highest[group + 1 :] = np.minimum(highest[group + 1 :], level)
            continue
        totals = raised
        levels[group] = level + 1
        heapq.heappush(waiting, (-tables.asked[group] / grid[level + 1], group))
    return widths(tables, levels)


def widths(tables: Tables, levels: Ints) -> list[int]:
    """Width of every table, in the order in which the tables were given."""
    grid = np.asarray(tables.grid, dtype=np.int64)
    return [int(width) for width in grid[levels][tables.group_of]]


def _totals(tables: Tables, levels: Ints) -> _Totals:
    dims = np.asarray(tables.grid, dtype=np.int64)[levels]
    widest = tables.out_dim or int(dims.max())
    return _Totals(
        int((tables.rows * dims).sum()),
        int(tables.stored[np.arange(len(levels)), levels].sum()),
        int((tables.counts * dims).sum()),
        widest,
        int(tables.counts[dims == widest].sum()),
    )
