"""The best choice of one option a class that a budget pays for: an exact knapsack.

A price per unit of cost turns the budget into a penalty; at the right one every class chooses for
itself, and the sum of the best scores bounds what any choice can be worth. Measured against that
bound, every other option of a class *loses* something. A choice better than the best one known must
lose less than the known one in sum, so nearly all options fall away, and the few that are left are
combined class by class, most promising first, keeping what is neither dominated nor beyond hope.

Source:
    D. Pisinger, *A minimal algorithm for the multiple-choice knapsack problem*, European Journal
    of Operational Research 83(2), 1995: bounds, reduction and expanding core. The lists are merged
    here as whole arrays, and classes may come in alternative sets (modes).
"""

# Legend: K classes, m options of a class, S states: partial choices, all classes that are not yet
# decided at their best. `room` is the budget less the cost, negative while overdrawn; `loss` is by
# what the choice is worth less than the bound, without the price of its room.

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.sizing.branches import Class, Mode, Outlook, branches
from models.sizing.relaxation import (
    NOISE,
    Choices,
    Floats,
    Ints,
    Pick,
    Relaxation,
    dive,
    evaluate,
    relax,
)

MAX_STATES: Final = 20_000
"""Longest list of partial choices; beyond it the least promising are dropped, and that is said."""
SHORT_LIST: Final = 300
MAX_DEPTH: Final = 8
FIRST_BRANCH_RATIO: Final = 0.3
BRANCH_RATIO: Final = 0.7
"""A class is tried out option by option where that leaves no more than this share of the gap,
before and after the short lists."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What a budget buys."""

    pick: Pick | None
    """The best choice; None where none beats what was known before."""
    bound: float
    """No choice is worth more. Equal to the value, but for rounding, where that is proved best."""


def solve(
    choices: Choices,
    budget: int,
    *,
    at_least: float = -math.inf,
    guess: float = 0.0,
    max_states: int = MAX_STATES,
) -> Solution | None:
    """Find the worthiest choice within a budget.

    Args:
        choices: Classes of options.
        budget: Cost that must not be exceeded.
        at_least: Only a choice worth more than this is of interest.
        guess: Price to start from, from a similar problem; 0 for none.
        max_states: Longest list of partial choices.

    Returns:
        The best choice and a bound that proves it; None where nothing fits the budget.
    """
    relaxed = relax(choices, budget, guess)
    if relaxed is None:
        return None
    best = dive(choices, relaxed, budget)
    better, bound = _search(
        choices, budget, relaxed, max(best.value, at_least), max_states, MAX_DEPTH
    )
    best = better or best
    return Solution(pick=best if best.value > at_least else None, bound=bound)


def _search(
    choices: Choices, budget: int, relaxed: Relaxation, known: float, max_states: int, depth: int
) -> tuple[Pick | None, float]:
    """A choice worth more than the known one, if there is any, and what none exceeds."""
    best, bound = None, relaxed.bound
    if bound - known <= NOISE * abs(bound):
        return None, max(known, bound)

    def combine(states: int) -> None:
        nonlocal best, known, bound
        better, proved = _Expansion(choices, budget, relaxed.price, known).run(states)
        best, known = better or best, known if better is None else better.value
        bound = max(known, min(bound, proved))

    parts = list(_split(choices, budget, relaxed, bound - known)) if depth else []
    highest = max((part.bound for _, part in parts), default=math.inf)
    if highest - known > FIRST_BRANCH_RATIO * (bound - known):
        # Short lists first: they mostly find the best choice, and so little is left to prove.
        combine(min(SHORT_LIST, max_states))
        if bound - known <= NOISE * abs(bound):
            return best, bound
        if highest - known > BRANCH_RATIO * (bound - known):
            combine(max_states)
            return best, bound
    bound = known
    for fixed, part in sorted(parts, key=lambda entry: -entry[1].bound):
        better, proved = _search(fixed, budget, part, known, max_states, depth - 1)
        best, known = better or best, known if better is None else better.value
        bound = max(bound, proved)
    return best, max(bound, known)


def _split(
    choices: Choices, budget: int, relaxed: Relaxation, gap: float
) -> Iterator[tuple[Choices, Relaxation]]:
    """The same problem with the group or class at which the budget breaks fixed, way by way.

    Where that one is large, what its next step leaves over is most of the gap, and every part has
    a price and hence a bound of its own.
    """
    within, beyond = relaxed.within, relaxed.beyond
    switched = np.flatnonzero(within.chosen & ~beyond.chosen)
    broken = np.flatnonzero(within.chosen[choices.modes] & (within.options != beyond.options))
    parts: list[Floats] = []
    if len(switched):
        here = choices.groups[choices.modes] == choices.groups[switched[0]]
        for mode in np.unique(choices.modes[here]):
            others = here & (choices.modes != mode)
            parts.append(np.where(others[:, None], -np.inf, choices.values))
    elif len(broken):
        rise = choices.costs[broken, beyond.options[broken]]
        row = broken[np.argmax(np.abs(rise - choices.costs[broken, within.options[broken]]))]
        scores = choices.values[row] - relaxed.price * choices.costs[row]
        for option in np.flatnonzero(scores > scores.max() - gap):
            values = choices.values.copy()
            values[row] = -np.inf
            values[row, option] = choices.values[row, option]
            parts.append(values)
    for values in parts:
        fixed = replace(choices, values=values)
        if (part := relax(fixed, budget, relaxed.price)) is not None:
            yield fixed, part


@dataclass(frozen=True, slots=True)
class _States:
    """Partial choices that may still become the best one, those with most room first."""

    room: Ints  # (S,)
    loss: Floats  # (S,)
    trail: Ints  # (S,) last entry of the log that led here, -1 where nothing was changed

    def at(self, index: Ints | NDArray[np.bool_]) -> "_States":
        return _States(self.room[index], self.loss[index], self.trail[index])

    def undominated(self, price: float) -> Ints:
        """Those of which none that has as much room is worth as much."""
        order = np.argsort(-self.room, kind="stable")
        if not len(order):
            return order
        worth = -self.loss[order] - price * self.room[order]
        best = np.maximum.accumulate(worth)
        kept: Ints = order[np.append(True, worth[1:] > best[:-1])]
        return kept


class _Expansion:
    """Combine the options that may be part of a better choice, group by group.

    Args:
        choices: Classes of options.
        budget: Cost that must not be exceeded.
        price: Of a unit of cost.
        known: Value of the best choice known.
    """

    def __init__(self, choices: Choices, budget: int, price: float, known: float) -> None:
        self.choices, self.price = choices, price
        self.base = choices.pick(choices.values - price * choices.costs)
        self.bound = self.base.score + price * budget
        self.gap = self.bound - known
        self.best: int | None = None
        self.log: list[tuple[Ints, int, Ints]] = []  # parents, row (or -1 - mode), options
        self.starts = [0]
        groups = list(branches(choices, self.base, price, self.gap))
        self.outlooks = [Outlook.of(group) for group in groups]
        order = sorted(range(len(groups)), key=lambda index: self.outlooks[index].rate)
        self.groups = [groups[index] for index in order]
        self.outlooks = [self.outlooks[index] for index in order]
        # Where all costs differ by multiples of a unit, what is left of the budget does, too.
        room = budget - self.base.cost
        rises = [mode.pieces()[0] for group in groups for mode in group]
        unit = int(np.gcd.reduce(np.concatenate(rises))) if rises else 0
        useless = room % unit if unit else 0
        self.room = room - useless
        self.bound -= price * useless
        self.gap -= price * useless

    def run(self, max_states: int) -> tuple[Pick | None, float]:
        """The best choice, None where none beats the known one, and what no choice exceeds."""
        later = [Outlook()]
        for outlook in reversed(self.outlooks[1:]):
            later.append(later[-1].joined(outlook))
        states = _States(np.array([self.room]), np.zeros(1), np.array([-1], dtype=np.int64))
        self._remember(states)
        dropped = math.inf
        for group, outlook in zip(self.groups, reversed(later), strict=False):
            states = self._expand(states, group)
            self._remember(states)
            hope = states.loss + outlook.least_loss(states.room, self.price)
            alive = np.flatnonzero(hope < self.gap)
            if len(alive) > max_states:
                order = np.argsort(hope[alive], kind="stable")
                dropped = min(dropped, float(hope[alive[order[max_states]]]))
                alive = alive[np.sort(order[:max_states])]
            states = states.at(alive)
        return self._retrace(), self.bound - min(self.gap, dropped)

    def _expand(self, states: _States, group: tuple[Mode, ...]) -> _States:
        """Every state with every option of a group, less those that lost their hope."""
        parts = []
        for mode in group:
            part = _States(states.room - mode.rise, states.loss + mode.loss, states.trail)
            part = part.at(part.loss < self.gap)
            if not self.base.chosen[mode.index]:
                part = self._logged(part, -1 - mode.index, np.ones_like(part.trail))
            for options in mode.classes:
                part = self._branch(part, options)
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        joined = _States(
            np.concatenate([part.room for part in parts]),
            np.concatenate([part.loss for part in parts]),
            np.concatenate([part.trail for part in parts]),
        )
        return joined.at(joined.undominated(self.price))

    def _branch(self, states: _States, part: Class) -> _States:
        size = len(states.room)
        loss = np.add.outer(part.losses, states.loss).ravel()  # option by option: runs in order
        index = np.flatnonzero(loss < self.gap)
        option, parent = np.divmod(index, max(size, 1))
        grown = _States(states.room[parent] - part.rises[option], loss[index], states.trail[parent])
        kept = grown.undominated(self.price)
        grown, option = grown.at(kept), option[kept]
        return self._logged(grown, part.row, np.where(option > 0, part.options[option], -1))

    def _logged(self, states: _States, row: int, options: Ints) -> _States:
        """The same states, and how they came about where an option is not -1."""
        changed = np.flatnonzero(options >= 0)
        self.log.append((states.trail[changed], row, options[changed]))
        trail = states.trail.copy()
        trail[changed] = self.starts[-1] + np.arange(len(changed))
        self.starts.append(self.starts[-1] + len(changed))
        return _States(states.room, states.loss, trail)

    def _remember(self, states: _States) -> None:
        """Take the best state, with all that is undecided at its best, if it fits and is better."""
        worst = np.where(states.room >= 0, states.loss + self.price * states.room, math.inf)
        if len(worst) and worst[least := int(np.argmin(worst))] < self.gap:
            self.gap = float(worst[least])
            self.best = int(states.trail[least])

    def _retrace(self) -> Pick | None:
        """The choice behind the best state."""
        if self.best is None:
            return None
        options, chosen, at = self.base.options.copy(), self.base.chosen.copy(), self.best
        while at >= 0:
            entry = bisect_right(self.starts, at) - 1
            parents, row, picked = self.log[entry]
            if row >= 0:
                options[row] = picked[at - self.starts[entry]]
            else:
                mode = -1 - row
                chosen[self.choices.groups == self.choices.groups[mode]] = False
                chosen[mode] = True
            at = int(parents[at - self.starts[entry]])
        return evaluate(self.choices, options, chosen)
