"""AutoEmb's super-net against loops over examples, and who learns from what."""

from itertools import product

import numpy as np
import pytest
import torch

from models.embeddings.choice import Surroundings
from models.layers.batch_norm import EPSILON
from models.search.autoemb import Controller, SoftMixture
from models.search.choices import AutoEmbChoice
from models.search.popularity_runs import runs_of
from models.tables import Block, FieldStats, SizingPlan
from models.turn import Turn
from service.data.batch import FeatureBuilder
from service.data.examples import Columns, ListColumn
from service.search.methods.autoemb import group_worth, profiles

CANDIDATES = (1, 2, 8)
ROWS = {"a": 7, "b": 30, "c": 12}
CURVES = {"a": ((1, 40), (3, 60), (7, 68)), "b": ((2, 400), (30, 400)), "c": ()}
FIELDS = [
    FieldStats(
        name=name,
        num_embeddings=rows,
        num_lookups=CURVES[name][-1][1] if CURVES[name] else 36,
        frequency_curve=CURVES[name],
    )
    for name, rows in ROWS.items()
]
IDS = np.array([[1, 0, 6, 2], [29, 1, 3, 15]], dtype=np.int32)
BAGS = ListColumn(
    lengths=np.array([2, 0, 1, 3], dtype=np.int32), values=np.array([5, 5, 0, 1, 2, 11], np.int32)
)
BAG_OF = [[5, 5], [], [0], [1, 2, 11]]
LENGTH = (8 * 3) ** -0.25  # 8 wide, 3 pairs of fields


def count_of(name, i):
    """Lookups of an id, as far as the curve tells."""
    first, below = 0, 0
    for end, lookups in CURVES[name] or ((12, 36),):
        if i < end:
            return (lookups - below) / (end - first)
        first, below = end, lookups
    raise AssertionError(i)


def level_of(name, i):
    return np.log1p(count_of(name, i)) / np.log1p(200)  # the first two ids of b


def embeddings_of(pooling="sum"):
    blocks = {
        name: (Block(num_embeddings=rows, embedding_dim=8, asked_dim=8),)
        for name, rows in ROWS.items()
    }
    plan = SizingPlan(fields=blocks, out_dim=8)
    choice = AutoEmbChoice(candidates=CANDIDATES)
    torch.manual_seed(0)
    made = choice.build(Surroundings(plan=plan, fields=FIELDS, pooling={"c": pooling}))
    with torch.no_grad():
        made.controller.outer.normal_()
        made.controller.outer_bias.normal_()
        for norm in made.mixture.norms:
            norm.mean.normal_()
            norm.variance.uniform_(0.5, 2)
    columns = Columns(
        labels=np.zeros(4, np.float32), dense=np.zeros((4, 0), np.float32), ids=IDS, lists=(BAGS,)
    )
    return made, FeatureBuilder(choice.layout(plan), ["c"])(columns)


def test_popularity_follows_the_frequency_curves():
    runs = runs_of(FIELDS)
    for name, rows in ROWS.items():
        ids = np.searchsorted(runs[name].ends, np.arange(rows), side="right")
        expected = [level_of(name, i) for i in range(rows)]
        assert np.array(runs[name].levels)[ids].tolist() == pytest.approx(expected)
    assert max(max(own.levels) for own in runs.values()) == 1


def test_ids_that_are_never_looked_up_have_no_popularity():
    (runs,) = runs_of([FieldStats(name="l", num_embeddings=3, num_lookups=0)]).values()
    assert (runs.ends, runs.levels) == ((3,), (0.0,))


def popularity(example, field, name):
    ids = BAG_OF[example] if name == "c" else [IDS[field, example]]
    return np.mean([level_of(name, i) for i in ids]) if len(ids) else 0.0


def test_batches_are_told_the_popularity_of_their_ids():
    embeddings, features = embeddings_of()
    expected = [
        [popularity(example, field, name) for field, name in enumerate(ROWS)]
        for example in range(4)
    ]
    assert torch.allclose(embeddings.popularity(features), torch.tensor(expected).float())


def looped(embeddings, pooling, mean, variance):
    """Vectors by loops over examples, fields and candidates, from the rows of the tables."""
    controller, found = embeddings.controller, torch.zeros(4, 3, 8)
    bags = embeddings.tables.embedding_bags
    rows = {name: bag.weight.reshape(-1, int(name.split("~")[1])) for name, bag in bags.items()}
    widened = torch.zeros(4, 3, 3, 8)
    for example, (field, name) in product(range(4), enumerate(ROWS)):
        ids = BAG_OF[example] if name == "c" else [int(IDS[field, example])]
        level = popularity(example, field, name)
        hidden = torch.tanh(level * controller.inner[field] + controller.inner_bias[field])
        shares = torch.softmax(hidden @ controller.outer[field] + controller.outer_bias[field], 0)
        for n, width in enumerate(CANDIDATES):
            x = sum((rows[f"{name}~{width}"][i] for i in ids), torch.zeros(width))
            x = x / len(ids) if name == "c" and pooling == "mean" and ids else x
            z = x @ embeddings.mixture.matrices[n][field]
            widened[example, field, n] = z
            z = (z - mean[n]) / torch.sqrt(variance[n] + EPSILON)
            found[example, field] += LENGTH * shares[n] * torch.tanh(z)
    return found, widened


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_a_field_is_the_mixture_that_its_controller_makes(pooling):
    embeddings, features = embeddings_of(pooling)
    norms = embeddings.eval().mixture.norms
    running = [norm.mean for norm in norms], [norm.variance for norm in norms]
    expected, widened = looped(embeddings, pooling, *running)
    found = embeddings(features).side_by_side.view(4, 3, 8)
    assert torch.allclose(found, expected, atol=1e-5)
    embeddings.train()
    of_batch = widened.mean(dim=(0, 1)), widened.var(dim=(0, 1), unbiased=False)
    expected, _ = looped(embeddings, pooling, *of_batch)
    found = embeddings(features).side_by_side.view(4, 3, 8)
    assert torch.allclose(found, expected, atol=1e-4)
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0])  # the third only fills the batch up
    counted = widened[weights > 0]
    of_batch = counted.mean(dim=(0, 1)), counted.var(dim=(0, 1), unbiased=False)
    expected, _ = looped(embeddings, pooling, *of_batch)
    found = embeddings(features, weights).side_by_side.view(4, 3, 8)
    assert torch.allclose(found, expected, atol=1e-4)


def test_candidates_weigh_the_same_in_the_beginning():
    shares = Controller(3, 4)(torch.rand(5, 3))
    assert torch.allclose(shares, torch.full((5, 3, 4), 0.25))


def test_fields_choose_by_themselves():
    controller = Controller(2, 3)
    with torch.no_grad():
        controller.outer.normal_()
    before = controller(torch.tensor([[0.2, 0.2], [0.2, 0.9]]))
    assert torch.equal(before[0, 0], before[1, 0])
    assert not torch.allclose(before[0, 1], before[1, 1])
    assert torch.allclose(before.sum(dim=2), torch.ones(2, 2))


@pytest.mark.parametrize("moves_weights", [True, False])
def test_running_figures_follow_the_batches_of_the_weights_alone(moves_weights):
    mixture = SoftMixture(2, (2, 4))
    mixture.turn = Turn(moves_weights=moves_weights)
    mixture(torch.randn(5, 2, 6), torch.full((5, 2, 2), 0.5), None)
    assert all(bool(norm.mean.any()) == moves_weights for norm in mixture.norms)


def test_examples_that_only_fill_a_batch_up_do_not_count():
    mixture, vectors, shares = SoftMixture(2, (2, 4)), torch.randn(6, 2, 6), torch.rand(6, 2, 2)
    alone = mixture(vectors[:5], shares[:5], None)
    filled = mixture(vectors, shares, torch.tensor([2.0] * 5 + [0.0]))
    assert torch.allclose(alone, filled[:5], atol=1e-6)


def test_groups_are_worth_their_lookups_times_shares():
    runs = runs_of(FIELDS)["a"]
    shares = np.random.default_rng(0).dirichlet(np.ones(2), size=3)
    counts, ends = np.array([40, 11, 9, 3, 3, 1, 1]), [2, 5, 7]
    found = group_worth(shares, runs, counts, ends)
    for group, (first, last) in enumerate(((0, 2), (2, 5), (5, 7))):
        expected = sum(
            counts[i] * shares[0 if i < 1 else 1 if i < 3 else 2] for i in range(first, last)
        )
        assert found[group] == pytest.approx(expected)
    assert found.sum() == pytest.approx(counts.sum())
    every = profiles(found, (4, 8))
    assert len(every) == 2**3
    assert every[8, 4, 8] == pytest.approx(found[0, 1] + found[1, 0] + found[2, 1])


@pytest.mark.parametrize("candidates", [(8,), (1, 2), (8, 4), (3, 8)])
def test_candidates_that_cannot_be_are_refused(candidates):
    with pytest.raises(ValueError, match="candidates="):
        AutoEmbChoice(candidates=candidates)


def test_plans_that_it_cannot_search_below_are_refused():
    block = Block(num_embeddings=7, embedding_dim=8, asked_dim=8)
    plan = SizingPlan(fields={"a": (block,)}, out_dim=8)
    with pytest.raises(ValueError, match="expected 8 as the last candidate"):
        AutoEmbChoice(candidates=(2, 16)).layout(plan)
    with pytest.raises(ValueError, match="AutoEmb searches below one table of 8 a field"):
        AutoEmbChoice(candidates=(2, 8)).layout(SizingPlan(fields={"a": (block, block)}, out_dim=8))
