"""The best plan within a budget as a knapsack: one width, and one number of rows, for every table.

What a projection costs depends on the width of the widest table, so that width is tried out: every
width of the grid is one knapsack, and those whose bound is below the best plan found are skipped.
Where a model concatenates, only blocks of one field depend on each other, and the width of the
field's widest block is part of the choice.
"""

# Legend: U units (a table and its tail of rare ids), R ways to cut rows, W widths, K classes.

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.sizing.knapsack import MAX_STATES, solve
from models.sizing.relaxation import Choices, Floats, Ints, Pick, relax
from models.sizing.rounding import round_up
from models.sizing.rows import RowChoice
from models.sizing.solver import Cost
from models.sizing.units import Unit, alone, ties
from models.tables import Block, SizingPlan

SHARED_DIM: Final = 2.0**-8
"""Width that an id is counted with which shares its row with others: a row of its own, 1 wide, is
worth as much as eight doublings of the width. A convention; it says how much lookups must be lost
for a wider table, and without a choice of rows it changes nothing."""
NUM_PROBES: Final = 6
"""Scenarios at which a price is sought that bounds the others."""
PROOF: Final = 1e-11
"""Gaps below this share of a value are rounding of floats."""

Values = Mapping[str, Mapping[int, float]]
"""By table name, what every width that the table may have is worth; comparable across tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """Widths that are allowed, and the width that narrower tables are projected to."""

    allowed: slice
    """Which of the grid."""
    target: int | None
    """None where fields need not be equally wide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """What every unit gets."""

    widths: Sequence[int]
    ways: Sequence[int]
    """Which of the ways to cut rows."""
    gap_ratio: float
    """By which share of its value another choice might be better; 0 where it is proved best."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Units, what they may be and what that costs and is worth."""

    plan: SizingPlan
    units: Sequence[Unit]
    widths: Sequence[int]
    cost: Cost
    out_dim: int | None = None
    given: Values | None = None
    """What widths are worth; from the asked widths where None."""
    capped: bool = False
    """Whether no table may be wider than it asks for."""

    @cached_property
    def is_shape(self) -> bool:
        """Whether values follow from what is asked, so that equal wishes stay equal."""
        return self.given is None and all(len(unit.choices) == 1 for unit in self.units)

    @property
    def is_concatenated(self) -> bool:
        """Whether blocks depend on the widest of their field, for they are projected to it."""
        return self.plan.join == "concatenate"

    @property
    def is_projected(self) -> bool:
        """Whether tables depend on the widest of all, for they are projected to it."""
        return self.plan.join == "project"

    @cached_property
    def groups(self) -> list[list[list[int]]]:
        """Groups of classes of units; several classes where blocks depend on each other."""
        return (ties if self.is_shape else alone)(self.units, coupled=self.is_concatenated)

    def scenarios(self) -> Iterator[Scenario]:
        """Every width that projections may have."""
        last = len(self.widths)
        fixed = self.out_dim if self.is_projected else None
        if self.given is None and len({unit.block.asked_dim for unit in self.units}) == 1:
            # A uniform shape stays uniform, whatever rows are cut.
            each = [slice(last)] if self.is_shape else [slice(i, i + 1) for i in range(last)]
            yield from (Scenario(allowed=allowed, target=fixed) for allowed in each)
        elif not self.is_projected or fixed is not None:
            yield Scenario(allowed=slice(last), target=fixed)
        else:
            for index, width in enumerate(self.widths):
                yield Scenario(allowed=slice(index + 1), target=width)

    @cached_property
    def kept_and_tail(self) -> tuple[Ints, Ints, Floats]:
        """Rows of head and tail ``(U, R)`` and the share of lookups; 0 where there is no choice."""
        shape = len(self.units), max(len(unit.choices) for unit in self.units)
        kept, tail = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        ratio = np.zeros(shape)
        for index, unit in enumerate(self.units):
            for way, choice in enumerate(unit.choices):
                kept[index, way], tail[index, way] = choice.num_embeddings, choice.tail_rows
                ratio[index, way] = choice.lookup_ratio
        return kept, tail, ratio

    @cached_property
    def values(self) -> Floats:
        """What every unit is worth ``(U, R, W)``."""
        kept, _, ratio = self.kept_and_tail
        if self.given is None:
            weight = [
                max(choice.num_embeddings for choice in unit.choices) * unit.block.asked_dim
                for unit in self.units
            ]
            widths = np.asarray(self.widths)
            worth = np.outer(weight, np.log(widths / SHARED_DIM))
            if self.capped:
                most = [max(round_up(unit.block.asked_dim), widths[0]) for unit in self.units]
                worth[widths > np.asarray(most)[:, None]] = -math.inf
        else:
            given = [self.given[unit.name] for unit in self.units]
            worth = np.array([[of.get(w, -math.inf) for w in self.widths] for of in given])
        with np.errstate(invalid="ignore"):
            values = worth[:, None, :] * ratio[:, :, None]
        allowed = (kept > 0)[:, :, None] & np.isfinite(worth)[:, None, :]
        return np.where(allowed, values, -math.inf)

    @cached_property
    def stored(self) -> tuple[Ints, Ints]:
        """Bytes of heads and of tails as wide as their heads ``(U, R, W)``."""
        kept, tail, _ = self.kept_and_tail
        widths = np.asarray(self.widths, dtype=np.int64)
        return (
            self.cost.of_tables(kept[:, :, None], widths),
            self.cost.of_tables(tail[:, :, None], widths),
        )

    def costs(self, units: Sequence[int], allowed: slice, target: int | None) -> Ints:
        """Bytes of units ``(U, R, W)`` that are projected to a width."""
        heads, tails = (part[units, :, allowed] for part in self.stored)
        if target is None:
            return heads + tails
        widths = np.asarray(self.widths[allowed], dtype=np.int64)
        project = self.cost.per_projection_weight * target * widths * (widths < target)
        tail_rows = self.kept_and_tail[1][units, :, None]
        as_wide = self.cost.of_tables(tail_rows, np.array(target, dtype=np.int64))
        return heads + project + np.where(tail_rows > 0, np.minimum(tails + project, as_wide), 0)

    def choices(self, scenario: Scenario) -> Choices:
        """The knapsack of a scenario; one row a class, in the order of `rows_of`."""
        simple = [classes[0] for classes in self.groups if len(classes) == 1]
        parts = [self._classes(simple, scenario.allowed, scenario.target)] if simple else []
        modes = list(range(len(simple)))
        groups = list(range(len(simple)))
        for group, classes in enumerate(self._coupled, start=len(simple)):
            for last, width in enumerate(self.widths[scenario.allowed]):
                parts.append(self._classes(classes, slice(last + 1), width))
                modes.extend([len(groups)] * len(classes))
                groups.append(group)
        size = max(values.shape[2] for _, values in parts)
        return Choices(
            costs=np.concatenate([_flat(costs, size, 0) for costs, _ in parts]),
            values=np.concatenate([_flat(values, size, -math.inf) for _, values in parts]),
            modes=np.array(modes),
            groups=np.array(groups),
        )

    def decoded(self, scenario: Scenario, pick: Pick, gap_ratio: float) -> Best:
        """What a choice means for every unit."""
        coupled = [classes for classes in self._coupled for _ in self.widths[scenario.allowed]]
        rows = [members for members, *others in self.groups if not others]
        rows += [members for classes in coupled for members in classes]
        modes = np.repeat(
            np.arange(len(pick.chosen)),
            [1] * (len(pick.chosen) - len(coupled)) + [len(classes) for classes in coupled],
        )
        grid = self.widths[scenario.allowed]
        chosen = {
            unit: divmod(int(option), len(grid))
            for members, option, mode in zip(rows, pick.options, modes, strict=True)
            for unit in members
            if pick.chosen[mode]
        }
        return Best(
            widths=[grid[chosen[unit][1]] for unit in range(len(self.units))],
            ways=[chosen[unit][0] for unit in range(len(self.units))],
            gap_ratio=gap_ratio,
        )

    def blocks(self, unit: Unit, width: int, choice: RowChoice, target: int) -> list[Block]:
        """Blocks of a unit; its tail is as wide as the head, or needs no projection if cheaper."""
        head = replace(unit.block, num_embeddings=choice.num_embeddings, embedding_dim=width)
        if not choice.tail_rows:
            return [head]
        rare = unit.num_ids - unit.block.hashed_ids - choice.num_embeddings
        narrow, as_wide = self.cost.of_tables(
            np.int64(choice.tail_rows), np.array([width, target], dtype=np.int64)
        )
        if self.plan.join != "pad" and width < target:
            narrow += self.cost.per_projection_weight * width * target
        tail = replace(
            head,
            num_embeddings=choice.tail_rows,
            embedding_dim=target if as_wide < narrow else width,
            hashed_ids=rare - choice.tail_rows,
        )
        return [head, tail]

    @property
    def has_coupled(self) -> bool:
        """Whether blocks of a field depend on each other, which takes longer by as many widths."""
        return bool(self._coupled)

    @cached_property
    def _coupled(self) -> list[list[list[int]]]:
        return [classes for classes in self.groups if len(classes) > 1]

    def _classes(
        self, classes: Sequence[Sequence[int]], allowed: slice, target: int | None
    ) -> tuple[Ints, Floats]:
        """Costs and values of classes ``(K, R, W)``."""
        units = [unit for members in classes for unit in members]
        starts = np.cumsum([0, *(len(members) for members in classes[:-1])])
        costs = self.costs(units, allowed, target)
        return (
            np.add.reduceat(costs, starts, axis=0),
            np.add.reduceat(self.values[units, :, allowed], starts, axis=0),
        )


def _flat(options: NDArray[Any], size: int, nothing: float) -> NDArray[Any]:
    """Options ``(K, R, W)`` as ``(K, R * size)``."""
    short = size - options.shape[2]
    padded = np.pad(options, ((0, 0), (0, 0), (0, short)), constant_values=nothing)
    return padded.reshape(len(options), -1)


def best_choice(problem: Problem, budget: int) -> Best | int:
    """The most valuable choice for every unit, or the bytes that would do where nothing fits."""
    scenarios = list(problem.scenarios())
    probes = scenarios[:: max(1, len(scenarios) // NUM_PROBES)]
    relaxed = [relax(problem.choices(probe), budget) for probe in probes]
    fitting = [found for found in relaxed if found is not None]
    price = max(fitting, key=lambda found: found.bound).price if fitting else 0.0
    bounds: list[tuple[float, Scenario]] = []
    needed = []
    for scenario in scenarios:
        choices = problem.choices(scenario)
        if (cheapest := choices.cheapest().cost) > budget:
            needed.append(cheapest)
            continue
        score = choices.pick(choices.values - price * choices.costs).score
        bounds.append((score + price * budget, scenario))
    if not bounds:
        return min(needed)
    best, bound, value = None, -math.inf, -math.inf
    for most, scenario in sorted(bounds, key=lambda entry: -entry[0]):
        if most <= value:
            break
        solution = solve(
            problem.choices(scenario),
            budget,
            at_least=value,
            guess=price,
            max_states=MAX_STATES // 4 if problem.has_coupled else MAX_STATES,
        )
        if solution is None:
            continue
        bound = max(bound, solution.bound)
        if solution.pick is not None:
            best, value = (scenario, solution.pick), solution.pick.value
    assert best is not None  # a relaxation that fits has a choice that fits
    gap = max(0.0, bound - value)
    return problem.decoded(*best, gap / max(abs(value), 1.0) if gap > PROOF * abs(value) else 0.0)
