"""What every network promises, whatever its formula; a new one is tested the day it appears."""

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from torchrec.sparse.jagged_tensor import KeyedTensor

from models.base import CtrModel
from models.embeddings.vectors import FieldVectors
from models.networks import NETWORKS, CollabNNNetwork, DCNv2Network, DotBiasNetwork, Network
from tests.models.examples import PAIR, WIDTHS, embeddings_of, inputs_of

PAIRS_ONLY = {"mf", "dotbias"}


def build(kind, widths=None, num_dense=5):
    network = NETWORKS[kind]()
    widths = widths or (PAIR if kind in PAIRS_ONLY else WIDTHS)
    return network.build(embeddings_of(widths, network.join), num_dense), tuple(widths)


@pytest.fixture(params=NETWORKS)
def kind(request):
    return request.param


@pytest.mark.parametrize("num_dense", [0, 5])
def test_every_network_gives_one_score_an_example(kind, num_dense):
    model, names = build(kind, num_dense=num_dense)
    for batch in (1, 6):
        assert model(*inputs_of(names, num_dense, batch=batch)).shape == (batch,)


def test_every_weight_of_every_network_gets_a_gradient(kind):
    torch.manual_seed(0)
    model, names = build(kind)
    model(*inputs_of(names, batch=64)).square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("join", ["project", "pad"])
def test_the_choice_and_the_network_join_fields_the_same_way(kind, join):
    network = NETWORKS[kind]()
    if network.join != "concatenate":
        network = replace(network, join=join)
    model = network.build(embeddings_of(PAIR, network.join), 5)
    assert (network.join == "concatenate") == (model.join == "concatenate")
    has_projections = len(model.embeddings.unify.projections) > 0
    assert has_projections == (network.join == "project")


def test_networks_that_multiply_fields_refuse_unequal_widths(kind):
    if NETWORKS[kind]().join == "concatenate":
        return
    widths = PAIR if kind in PAIRS_ONLY else WIDTHS
    with pytest.raises(ValueError, match=r"needs equally wide fields, .* \[4, 8\]; build them"):
        NETWORKS[kind]().build(embeddings_of(widths, "concatenate"), 5)


def test_scores_of_an_example_do_not_depend_on_its_batch(kind):
    model, names = build(kind)
    dense, features = inputs_of(names, batch=6)
    together = model(dense, features)
    vectors = model.embeddings(features).side_by_side
    alone = torch.cat(
        [model.score(dense[i : i + 1], FieldVectors(vectors[i : i + 1])) for i in range(6)]
    )
    assert torch.allclose(together, alone, atol=1e-5)


def narrow_vectors(model, names, num_examples):
    dims = [PAIR.get(name, 8) for name in names]
    values = torch.randn(num_examples, sum(dims), dtype=torch.float64, requires_grad=True)
    return values, model.embeddings.unify(KeyedTensor(list(names), dims, values), None)


def test_projections_folded_into_layers_learn_what_they_would_in_front_of_them(kind):
    model, names = build(kind)
    values, narrow = narrow_vectors(model.double(), names, 64)
    dense = torch.rand(64, 5, dtype=torch.float64)
    scores = [model.score(dense, v) for v in (narrow, FieldVectors(narrow.side_by_side))]
    moved = [values, *(p for n, p in model.named_parameters() if "embedding_bags" not in n)]
    losses = [score.square().sum() for score in scores]
    found, expected = (torch.autograd.grad(loss, moved, retain_graph=True) for loss in losses)
    assert all(map(torch.allclose, (scores[0], *found), (scores[1], *expected)))


def test_a_batch_without_examples_has_no_scores(kind):
    model, names = build(kind)
    _, narrow = narrow_vectors(model.double(), names, 0)
    assert model.score(torch.rand(0, 5, dtype=torch.float64), narrow).shape == (0,)


def test_bf16_scores_are_near_fp32_and_weights_stay_fp32(kind):
    torch.manual_seed(0)
    model, names = build(kind)
    inputs = inputs_of(names, batch=64)
    exact = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*inputs)
    found.float().sum().backward()
    assert torch.allclose(found.float(), exact, atol=0.05 * float(exact.detach().std()) + 0.02)
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_every_network_has_a_file_of_its_own(kind):
    model, _ = build(kind)
    assert isinstance(model, CtrModel)
    assert Path(inspect.getfile(type(model))).stem == kind


def test_a_choice_is_read_from_its_name(kind):
    assert TypeAdapter(Network).validate_python({"kind": kind}) == NETWORKS[kind]()


@pytest.mark.parametrize("model", sorted(PAIRS_ONLY))
def test_factorizations_name_the_way_out_when_there_are_three_fields(model):
    with pytest.raises(ValueError, match=rf"{model} multiplies two fields, .* 3 \(a, b, c\); name"):
        build(model, WIDTHS)


@pytest.mark.parametrize("choice", [DotBiasNetwork, CollabNNNetwork])
def test_bounds_in_the_wrong_order_are_refused(choice):
    with pytest.raises(ValueError, match=r"y_range=\(5.5, 0\), expected the lower bound first"):
        choice(y_range=(5.5, 0))


def test_a_cross_network_without_layers_is_refused():
    with pytest.raises(ValueError, match="cross_layers=0, expected at least 1"):
        DCNv2Network(cross_layers=0)
    with pytest.raises(ValueError, match="cross_rank=-1, expected at least 0"):
        DCNv2Network(cross_rank=-1)
