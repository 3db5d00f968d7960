"""What is left of the classes of a knapsack once the hopeless options are gone.

An option *loses* what its class or its mode is worth less by it at the price that nearly fits the
budget. A choice that is better than the best one known loses less in sum than the gap between that
one and the bound, so options that lose as much alone can be left out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.sizing.relaxation import Choices, Floats, Ints, Pick


@dataclass(frozen=True, slots=True)
class Class:
    """Options of a class that are not beyond hope; the first is the best at the price."""

    row: int
    options: Ints
    rises: Ints
    losses: Floats


@dataclass(frozen=True, slots=True)
class Mode:
    """What changing to a mode adds, and its classes that leave a choice."""

    index: int
    rise: int
    loss: float
    classes: tuple[Class, ...]

    def pieces(self) -> tuple[Ints, Floats]:
        """Rise and loss of every change that it allows."""
        rises = [np.array([self.rise]), *(part.rises for part in self.classes)]
        losses = [np.array([self.loss]), *(part.losses for part in self.classes)]
        return np.concatenate(rises), np.concatenate(losses)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the groups that are still undecided can do at best; a lower bound of their loss."""

    saving_rate: float = math.inf
    """Least loss for a unit of room won."""
    spending_rate: float = math.inf
    """Least loss for a unit of room spent."""
    most_saved: int = 0
    most_spent: int = 0

    @classmethod
    def of(cls, modes: Sequence[Mode]) -> "Outlook":
        """The influence of one group."""
        pieces = [mode.pieces() for mode in modes]
        rises = np.concatenate([rise for rise, _ in pieces])
        losses = np.concatenate([loss for _, loss in pieces])
        saving, spending = rises < 0, rises > 0
        turns = [
            (mode.rise + sum(pick(part.rises) for part in mode.classes))
            for pick in (np.min, np.max)
            for mode in modes
        ]
        return cls(
            float(np.min(losses[saving] / -rises[saving], initial=math.inf)),
            float(np.min(losses[spending] / rises[spending], initial=math.inf)),
            max(0, -int(min(turns))),
            max(0, int(max(turns))),
        )

    @property
    def rate(self) -> float:
        """How promising the group is: the lower, the more."""
        return min(self.saving_rate, self.spending_rate)

    def joined(self, other: "Outlook") -> "Outlook":
        """Two groups together."""
        return Outlook(
            min(self.saving_rate, other.saving_rate),
            min(self.spending_rate, other.spending_rate),
            self.most_saved + other.most_saved,
            self.most_spent + other.most_spent,
        )

    def least_loss(self, room: Ints, price: float) -> Floats:
        """What it takes at least to end within the budget, unspent room included."""
        spent = np.clip(room, 0, self.most_spent) if self.spending_rate < price else room * 0
        over = np.maximum(-room, 0)
        loss = price * (np.maximum(room, 0) - spent)
        if self.most_spent:
            loss += min(self.spending_rate, price) * spent
        if self.most_saved:
            loss += self.saving_rate * over
        return np.where(over > self.most_saved, math.inf, loss)


def branches(choices: Choices, base: Pick, price: float, gap: float) -> Iterator[tuple[Mode, ...]]:
    """Every group that has a choice: its modes and options that lose less than the gap.

    Args:
        choices: Classes of options.
        base: The best choice at the price, from which rises are counted.
        price: Of a unit of cost.
        gap: What a choice may lose and still be of interest.
    """
    scores = choices.values - price * choices.costs
    rows, num_modes = np.arange(len(scores)), len(choices.groups)
    best = scores[rows, base.options]
    of_mode = np.bincount(choices.modes, best, num_modes)
    of_group = np.maximum.reduceat(of_mode, choices.starts)
    mode_losses = of_group[_positions(choices)] - of_mode
    losses = np.where(np.isfinite(best), best, 0.0)[:, None] - scores
    own = choices.costs[rows, base.options]
    costs = np.zeros(num_modes, dtype=np.int64)
    np.add.at(costs, choices.modes, own)
    rises = costs - costs[base.chosen][_positions(choices)]
    alive = losses + mode_losses[choices.modes][:, None] < gap
    open_rows = np.flatnonzero(alive.sum(axis=1) > 1)
    classes: dict[int, list[Class]] = {}
    for row in open_rows.tolist():
        others = np.flatnonzero(alive[row])
        options = np.append(base.options[row], others[others != base.options[row]])
        part = Class(row, options, choices.costs[row, options] - own[row], losses[row, options])
        classes.setdefault(int(choices.modes[row]), []).append(part)
    groups: dict[int, list[Mode]] = {}
    for mode in np.flatnonzero(mode_losses < gap).tolist():
        here = tuple(classes.get(mode, ()))
        one = Mode(mode, int(rises[mode]), float(mode_losses[mode]), here)
        groups.setdefault(int(choices.groups[mode]), []).append(one)
    for modes in groups.values():
        if len(modes) > 1 or modes[0].classes:
            yield tuple(modes)


def _positions(choices: Choices) -> Ints:
    """Position of every mode's group."""
    return np.cumsum(np.append(0, np.diff(choices.groups) > 0))
