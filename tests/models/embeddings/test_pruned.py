"""Zeros of pruned tables: no gradient reaches them, whatever else a batch reads."""

import pytest
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings.choice import Surroundings
from models.embeddings.pruning import PrunedChoice
from models.sizing import Uniform
from tests.models.sizing.examples import field

SURROUNDINGS = Surroundings(plan=Uniform(dim=4)([field("a", 5), field("b", 3)]))
FEATURES = KeyedJaggedTensor(
    keys=["a", "b"], values=torch.tensor([0, 0, 4, 1, 2, 1]), lengths=torch.ones(6, dtype=torch.int)
)


def test_gradients_are_those_of_the_plain_tables_but_for_zeros():
    torch.manual_seed(0)
    embeddings = PrunedChoice(thresholds={"a": 0.1}).build(SURROUNDINGS)
    weights = {name: bag.weight for name, bag in embeddings.tables.embedding_bags.items()}
    with torch.no_grad():
        for weight in weights.values():
            weight[weight < 0] = 0
    embeddings(FEATURES).side_by_side.square().sum().backward()
    gradient = {name: weight.grad for name, weight in weights.items()}
    assert torch.equal(gradient["a"], 2 * weights["a"] * torch.tensor([2, 0, 0, 0, 1])[:, None])
    embeddings.zero_grad()
    (embeddings(FEATURES).side_by_side.sum()).backward()
    is_kept = weights["a"].detach() != 0
    assert torch.equal(weights["a"].grad, is_kept * torch.tensor([2.0, 0, 0, 0, 1])[:, None])
    assert torch.equal(weights["b"].grad, torch.tensor([0.0, 2, 1])[:, None].expand(3, 4))


def test_lists_are_refused():
    given = Surroundings(plan=SURROUNDINGS.plan, pooling={"a": "sum"})
    with pytest.raises(ValueError, match=r"\['a'\] are fields of lists"):
        PrunedChoice(thresholds={"a": 0.1}).build(given)


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match=r"\['c'\] are not fields of the sizing plan, .* a, b"):
        PrunedChoice(thresholds={"c": 0.1}).layout(SURROUNDINGS.plan)
