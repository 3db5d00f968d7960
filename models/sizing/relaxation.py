"""Classes of options under one budget, and the price at which they nearly fit it.

A price per unit of cost turns the budget into a penalty. At the right price every class chooses for
itself, and the sum of the best scores bounds what any choice within the budget can be worth.
"""

# Legend: K classes, m options of a class, M modes.

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NOISE: Final = 1e-13
"""Losses below this share of the bound are rounding of floats."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Classes of options. Of each group one mode is chosen, and one option of each of its classes.

    An ordinary class is the only class of the only mode of its group.
    """

    costs: Ints  # (K, m)
    values: Floats  # (K, m) minus infinity where a class has no such option
    modes: Ints  # (K,) rising: mode of each class
    groups: Ints  # (M,) rising: group of each mode

    @classmethod
    def ordinary(cls, costs: Ints, values: Floats) -> "Choices":
        """Classes that know no modes."""
        each = np.arange(len(costs), dtype=np.int64)
        return cls(costs=costs, values=values, modes=each, groups=each)

    @cached_property
    def starts(self) -> Ints:
        """First mode of every group."""
        return np.flatnonzero(np.append(True, np.diff(self.groups) > 0))

    def pick(self, scores: Floats) -> "Pick":
        """The best option of every class and the best mode of every group, by their scores."""
        options = np.argmax(scores, axis=1)
        of_class = np.take_along_axis(scores, options[:, None], axis=1)[:, 0]
        of_mode = np.bincount(self.modes, of_class, minlength=len(self.groups))
        of_group = np.maximum.reduceat(of_mode, self.starts)
        best = np.flatnonzero(of_mode == of_group[self.groups])
        chosen = np.zeros(len(self.groups), dtype=bool)
        chosen[best[np.append(True, np.diff(self.groups[best]) > 0)]] = True
        used = np.flatnonzero(chosen[self.modes])
        return Pick(
            options=options,
            chosen=chosen,
            cost=int(self.costs[used, options[used]].sum()),
            value=float(self.values[used, options[used]].sum()),
            score=float(of_group.sum()),
        )

    def cheapest(self) -> "Pick":
        """The cheapest choice, and the worthiest of options that cost the same."""
        allowed = np.isfinite(self.values)
        costs = np.where(allowed, self.costs, np.iinfo(np.int64).max)
        worth = np.where(costs == costs.min(axis=1, keepdims=True), self.values, -np.inf)
        rows, options = np.arange(len(costs)), np.argmax(worth, axis=1)
        scores = np.full(self.costs.shape, -np.inf)
        scores[rows, options] = -self.costs[rows, options].astype(float)
        scores[~np.isfinite(self.values)] = -np.inf
        return self.pick(scores)


@dataclass(frozen=True, kw_only=True)
class Pick:
    """One option of every class, and which modes are chosen; other modes' options do not count."""

    options: Ints  # (K,)
    chosen: NDArray[np.bool_]  # (M,)
    cost: int
    value: float
    score: float


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """The right price of a unit of cost."""

    price: float
    bound: float
    """No choice within the budget is worth more."""
    within: Pick
    """A choice within the budget, best at this price."""
    beyond: Pick
    """One beyond the budget that is as good at this price; the same where all fits."""


def relax(choices: Choices, budget: int, guess: float = 0.0) -> Relaxation | None:
    """Find the price that gives the tightest bound; None where nothing fits.

    Each choice is a line over the price, ``value + price * (budget - cost)``; the bound is their
    upper envelope, and its lowest point is where one line within the budget meets one beyond it.
    """
    within, beyond = choices.cheapest(), choices.pick(choices.values)
    if not math.isfinite(within.score) or within.cost > budget:
        return None
    if beyond.cost <= budget:
        return Relaxation(price=0.0, bound=beyond.value, within=beyond, beyond=beyond)
    while True:
        price = guess or (beyond.value - within.value) / (beyond.cost - within.cost)
        at_price = choices.pick(choices.values - price * choices.costs)
        meeting = within.value - price * within.cost
        bound = at_price.score + price * budget
        if not guess and at_price.score - meeting <= NOISE * abs(bound):
            return Relaxation(price=price, bound=bound, within=within, beyond=beyond)
        guess = 0.0
        if at_price.cost <= budget:
            within = at_price
        else:
            beyond = at_price


def dive(choices: Choices, relaxed: Relaxation, budget: int, rounds: int = 40) -> Pick:
    """A good choice: fix the classes at which the budget breaks, and relax the others again.

    What a large class leaves over, because its next step does not fit, goes to smaller ones.
    """
    values = choices.values.copy()
    for _ in range(rounds):
        within, beyond = relaxed.within, relaxed.beyond
        here, there = within.chosen[choices.modes], beyond.chosen[choices.modes]
        broken = np.flatnonzero(here & (~there | (within.options != beyond.options)))
        if not len(broken):
            break
        fixed = within.options[broken]
        kept = values[broken, fixed]
        values[broken] = -np.inf
        values[broken, fixed] = kept
        values[there & ~here] = -np.inf
        rest = replace(choices, values=values)
        again = relax(rest, budget, relaxed.price)
        if again is None:
            break
        relaxed = again
    return improve(choices, relaxed.within, budget)


def improve(choices: Choices, pick: Pick, budget: int, rounds: int = 200) -> Pick:
    """Spend what a choice leaves over, one class at a time, the most valuable change first."""
    rows = np.flatnonzero(pick.chosen[choices.modes])
    costs, values = choices.costs[rows], choices.values[rows]
    options = pick.options.copy()
    room = budget - pick.cost
    for _ in range(rounds):
        now = options[rows][:, None]
        rise = costs - np.take_along_axis(costs, now, axis=1)
        gain = values - np.take_along_axis(values, now, axis=1)
        gain[rise > room] = -np.inf
        row, option = np.unravel_index(int(np.argmax(gain)), gain.shape)
        if not gain[row, option] > 0:
            break
        room -= int(rise[row, option])
        options[rows[row]] = option
    return evaluate(choices, options, pick.chosen)


def evaluate(choices: Choices, options: Ints, chosen: NDArray[np.bool_]) -> Pick:
    """What given options cost and are worth."""
    used = np.flatnonzero(chosen[choices.modes])
    value = math.fsum(choices.values[used, options[used]])
    cost = int(choices.costs[used, options[used]].sum())
    return Pick(options=options, chosen=chosen, cost=cost, value=value, score=value)
