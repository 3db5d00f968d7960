"""Random prefixes against a plain loop, the uniform distribution, and what ranks and steps see."""

from collections import Counter

import numpy as np
import pytest
import torch

from models.embeddings.choice import Surroundings
from models.embeddings.mixed import MixedEmbeddings
from models.search.choices import OptEmbedChoice
from models.search.optembed import RandomPrefixes, draws
from models.tables import Block, SizingPlan
from models.turn import Turn
from service.data.batch import FeatureBuilder
from service.data.examples import Columns, ListColumn

CANDIDATES = (1, 4, 8)
ROWS = {"a": 7, "b": 30, "c": 12}


def plan_of(width=8, **changes):
    blocks = {
        name: (Block(num_embeddings=rows, embedding_dim=width, asked_dim=width),)
        for name, rows in ROWS.items()
    }
    return SizingPlan(fields=blocks | changes, out_dim=width)


def test_the_paper_draws_prefixes():
    prefixes = RandomPrefixes(1, (1, 2, 3, 4), 4)  # G:optembed_params of the specification
    assert prefixes.shown.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_every_example_and_field_shows_the_width_it_has_drawn():
    prefixes, fields = RandomPrefixes(3, CANDIDATES, 8), torch.randn(50, 24)
    prefixes.turn = Turn(step=3, seed=1)
    drawn = draws(prefixes.turn, 50, 3, 3, 0)
    expected = fields.view(50, 3, 8).clone()
    for example in range(50):
        for field in range(3):
            expected[example, field, CANDIDATES[drawn[example, field]] :] = 0
    assert torch.equal(prefixes(fields).view(50, 3, 8), expected)


def test_all_widths_are_equally_likely_and_fields_independent():
    seen = draws(Turn(), 90_000, 2, 3, 0)
    pairs = Counter(map(tuple, seen.tolist()))
    assert set(pairs) == {(a, b) for a in range(3) for b in range(3)}
    expected = 90_000 / 9
    statistic = sum((n - expected) ** 2 / expected for n in pairs.values())
    assert statistic < 8 + 4 * np.sqrt(2 * 8)  # 4 sigma of chi squared


def test_ranks_draw_together_what_one_draws_alone():
    turn = Turn(step=7, seed=5)
    alone = draws(turn, 24, 3, 3, 0)
    shares = [draws(turn, 8, 3, 3, rank) for rank in range(3)]
    assert np.array_equal(alone, np.concatenate(shares))


def test_every_step_and_seed_draws_anew():
    first, again, later, other = (
        draws(turn, 40, 3, 3, 0)
        for turn in (Turn(step=1), Turn(step=1), Turn(step=2), Turn(step=1, seed=1))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, other)


def features_of(plan):
    ids = np.array([[1, 0, 6, 2], [29, 3, 3, 15]], dtype=np.int32)
    bags = ListColumn(
        lengths=np.array([2, 0, 1, 3], dtype=np.int32),
        values=np.array([5, 5, 0, 1, 2, 11], np.int32),
    )
    columns = Columns(
        labels=np.zeros(4, np.float32), dense=np.zeros((4, 0), np.float32), ids=ids, lists=(bags,)
    )
    return FeatureBuilder(plan, ["c"])(columns)


def test_evaluation_sees_whole_vectors_and_training_their_prefixes():
    plan = plan_of()
    given = Surroundings(plan=plan, pooling={"c": "mean"})
    torch.manual_seed(0)
    embeddings = OptEmbedChoice(candidates=CANDIDATES).build(given)
    torch.manual_seed(0)
    whole = MixedEmbeddings(plan, pooling={"c": "mean"})(features_of(plan)).side_by_side
    shown = embeddings(features_of(plan)).side_by_side
    assert torch.equal(embeddings.eval()(features_of(plan)).side_by_side, whole)
    assert torch.equal(shown, torch.where(shown == 0, 0.0, whole))
    assert 0 < (shown == 0).float().mean() < 1
    assert shown.view(4, 3, 8)[:, :, 0].equal(whole.view(4, 3, 8)[:, :, 0])


def test_hidden_columns_do_not_learn():
    embeddings = OptEmbedChoice(candidates=(1,)).build(Surroundings(plan=plan_of()))
    embeddings(features_of(plan_of())).side_by_side.sum().backward()
    for bag in embeddings.tables.embedding_bags.values():
        assert bag.weight.grad[:, 0].any()
        assert not bag.weight.grad[:, 1:].any()


@pytest.mark.parametrize("candidates", [(), (4, 2), (3,), (0, 4), (4, 4)])
def test_candidates_that_cannot_be_are_refused(candidates):
    with pytest.raises(ValueError, match="expected 1 or more rising widths"):
        OptEmbedChoice(candidates=candidates)


def test_plans_that_it_cannot_search_below_are_refused():
    narrow = (Block(num_embeddings=7, embedding_dim=4, asked_dim=4),)
    with pytest.raises(ValueError, match="table 'a' of the sizing plan is 4 wide; OptEmbed"):
        OptEmbedChoice(candidates=(4,)).layout(plan_of(a=narrow))
    with pytest.raises(ValueError, match="tables of the sizing plan are 8 wide"):
        OptEmbedChoice().layout(plan_of())
