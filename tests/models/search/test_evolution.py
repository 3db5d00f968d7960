"""Evolution against all choices counted out, and what its children are made of."""

from itertools import product

import numpy as np
import pytest

from models.search.evolution import Evolution, Generations
from models.tables import PlanError

WIDTHS = (1, 2, 4, 8)
COSTS = {name: {w: w * rows for w in WIDTHS} for name, rows in (("a", 100), ("b", 10), ("c", 40))}
WORTH = {"a": 1.0, "b": 0.2, "c": 3.0}


def worth(widths):
    return sum(WORTH[name] * np.log(width) for name, width in widths.items())


def evolution(budget=None, seed=0, **options):
    return Evolution(COSTS, budget, np.random.default_rng(seed), Generations(**options))


def cost(widths):
    return sum(COSTS[name][width] for name, width in widths.items())


@pytest.mark.parametrize("budget", [150, 400, 700, None])
def test_the_best_of_all_choices_within_the_budget_is_found(budget):
    every = [dict(zip(COSTS, widths, strict=True)) for widths in product(WIDTHS, repeat=3)]
    best = max((w for w in every if budget is None or cost(w) <= budget), key=worth)
    found = evolution(budget).run(worth)
    assert found.widths == best
    assert found.score == worth(best)


def test_nothing_beyond_the_budget_is_ever_judged():
    seen = []
    evolution(300, rounds=5).run(lambda widths: seen.append(cost(widths)) or worth(widths))
    assert seen
    assert max(seen) <= 300


def test_every_choice_is_judged_once():
    seen = []
    found = evolution(rounds=8).run(lambda widths: seen.append(tuple(widths.values())) or 0.0)
    assert len(seen) == len(set(seen)) == found.num_scored <= 4**3


def test_of_equally_good_choices_the_cheapest_is_taken():
    assert evolution().run(lambda widths: 0.0).widths == {"a": 1, "b": 1, "c": 1}


def test_the_best_score_never_falls():
    scores = evolution(400, rounds=10).run(worth).best_scores
    assert len(scores) == 11
    assert scores == sorted(scores)


def test_every_generation_is_heard_of_while_it_goes_on(caplog):
    caplog.set_level("INFO", logger="models.search.evolution")
    found = evolution(400, rounds=3).run(worth)
    assert len(caplog.messages) == 4
    last = f"generation 3 of 3: {found.num_scored} choices tried, the best {found.score:.6g}"
    assert caplog.messages[-1] == last


def test_mutations_draw_a_share_of_the_widths_anew():
    made = evolution(mutation_ratio=0.1)
    parent = (4, 4, 4)
    children = [made.mutated([parent]) for _ in range(4000)]
    changed = np.mean([c != 4 for child in children for c in child])
    assert changed == pytest.approx(0.1 * 3 / 4, abs=0.01)  # a quarter draws the same again
    assert {c for child in children for c in child} == set(WIDTHS)


def test_crossovers_have_every_width_of_either_parent():
    made = evolution()
    children = {made.crossed([(1, 2, 4), (8, 8, 8)]) for _ in range(500)}
    assert children == set(product((1, 8), (2, 8), (4, 8)))


def test_children_leave_their_parents_as_they_are():
    made = evolution(mutation_ratio=1.0)
    parents = [(4, 4, 4), (8, 8, 8)]
    made.children(parents)
    assert parents == [(4, 4, 4), (8, 8, 8)]


def test_the_same_seed_evolves_the_same():
    first, again, other = (evolution(400, seed=seed, rounds=2) for seed in (1, 1, 2))
    assert first.run(worth) == again.run(worth)
    assert list(first.scores) == list(again.scores)
    other.run(worth)
    assert list(first.scores) != list(other.scores)


def test_a_budget_that_nothing_fits_is_refused():
    with pytest.raises(PlanError, match="cheapest of the candidates take 150 bytes"):
        evolution(149).run(worth)
