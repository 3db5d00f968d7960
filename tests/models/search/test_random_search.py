"""Random widths against the uniform distribution over all choices that fit, counted out."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from models.search.random_search import draw
from models.tables import PlanError

COSTS = {"a": {1: 10, 2: 20, 4: 40}, "b": {1: 5, 2: 9, 4: 3}, "c": {1: 1, 4: 30}}
BUDGET = 50


def fitting(budget: int | None) -> list[tuple[int, ...]]:
    return [
        choice
        for choice in product(*COSTS.values())
        if budget is None
        or sum(of[width] for of, width in zip(COSTS.values(), choice, strict=True)) <= budget
    ]


@pytest.mark.parametrize("budget", [None, BUDGET])
def test_all_choices_that_fit_are_equally_likely(budget):
    rng = np.random.default_rng(0)
    draws = 400
    seen = Counter(tuple(draw(COSTS, budget, rng).values()) for _ in range(draws))
    choices = fitting(budget)
    assert set(seen) == set(choices)
    expected = draws / len(choices)
    statistic = sum((seen[choice] - expected) ** 2 / expected for choice in choices)
    assert statistic < len(choices) + 4 * np.sqrt(2 * len(choices))  # 4 sigma of chi squared


def test_what_does_not_fit_is_refused_with_what_would():
    with pytest.raises(PlanError, match="the cheapest of the candidates take 14 bytes") as error:
        draw(COSTS, 13, np.random.default_rng(0))
    assert error.value.needed_bytes == 14
    assert draw(COSTS, 14, np.random.default_rng(0)) == {"a": 1, "b": 4, "c": 1}
