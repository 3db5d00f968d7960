"""Saliencies against the toy's closed form, autograd in float64 and a pair-by-pair loop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn.functional import binary_cross_entropy_with_logits

from models.fm import pairwise_interactions
from models.search.sseds import (
    best_columns,
    largest_groups,
    largest_pairs,
    mask_gradient,
    saliency,
    signed_saliency,
    walk,
    worth,
)

TOY = json.loads((Path(__file__).parents[2] / "golden" / "sseds.json").read_text())
GRADIENTS = arrays(np.float64, (3, 8), elements=st.floats(-1e3, 1e3))


def toy_gradients() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors, gradient of the loss with respect to them, and with respect to the mask."""
    vectors = torch.tensor(TOY["vectors"], dtype=torch.float64, requires_grad=True)
    mask = torch.ones(vectors.shape[1:], dtype=torch.float64, requires_grad=True)
    masked = vectors * mask
    scores = pairwise_interactions(masked.sum(dim=1), masked.square().sum(dim=(1, 2)))
    labels = torch.tensor(TOY["labels"], dtype=torch.float64)
    loss = binary_cross_entropy_with_logits(scores, labels)
    assert scores.tolist() == TOY["scores"]
    assert loss.item() == pytest.approx(TOY["loss"], rel=1e-12)
    of_vectors, of_mask = torch.autograd.grad(loss, [vectors, mask])
    return vectors.detach(), of_vectors, of_mask


def test_the_gradient_of_the_mask_is_that_of_the_closed_form_and_of_autograd():
    vectors, gradients, of_mask = toy_gradients()
    found = np.stack(
        [mask_gradient(vectors[:, i].numpy(), gradients[:, i].numpy()) for i in range(3)]
    )
    assert np.allclose(found, TOY["gradient"], rtol=1e-12, atol=1e-15)
    assert np.allclose(found, of_mask.numpy(), rtol=1e-12, atol=1e-15)
    assert np.allclose(saliency(found), TOY["saliency"], rtol=1e-12)


def test_the_toy_keeps_the_pairs_of_the_closed_form():
    mask = largest_pairs(np.array(TOY["saliency"]), 4)
    assert mask.astype(float).tolist() == TOY["top_4_pairs"]
    assert mask.sum(axis=1).tolist() == TOY["top_4_dims"]
    assert int(mask.sum(axis=1) @ TOY["rows"]) == TOY["params_of_top_4"]


@pytest.mark.parametrize(("order", "per_cost"), [("by_saliency", False), ("per_param", True)])
def test_the_toy_spends_its_budget_of_parameters_as_worked_out(order, per_cost):
    names, widths = "abc", range(1, 4)
    worths = {n: worth(np.array(s), widths) for n, s in zip(names, TOY["saliency"], strict=True)}
    costs = {n: {w: w * rows for w in widths} for n, rows in zip(names, TOY["rows"], strict=True)}
    found = walk(worths, costs, 1150, per_cost=per_cost)
    assert list(found.values()) == TOY["budget_1150"][order]["dims"]
    spent = sum(costs[n].get(w, 0) for n, w in found.items())
    assert spent == TOY["budget_1150"][order]["params"]


@given(GRADIENTS)
def test_saliencies_sum_to_one_and_signed_ones_are_the_useful_part(gradient):
    found = saliency(gradient)
    assert found.sum() == pytest.approx(1.0 if gradient.any() else 0.0)
    assert np.array_equal(signed_saliency(gradient), np.where(gradient < 0, found, 0.0))


@given(GRADIENTS, st.integers(1, 24))
def test_as_many_pairs_stay_as_asked_and_none_that_is_less_salient(gradient, kappa):
    found = saliency(np.round(gradient))  # with ties
    mask = largest_pairs(found, kappa)
    pairs = sorted(np.ndindex(found.shape), key=lambda pair: (-found[pair], pair))
    assert {*map(tuple, np.argwhere(mask))} == {pair for pair in pairs[:kappa] if found[pair]}


def test_pairs_that_do_harm_do_not_stay_to_make_up_the_number():
    found = signed_saliency(np.array([[2.0, 1.0, 1.0, 3.0], [1.0, -1.0, -1.0, 1.0]]))
    assert largest_pairs(found, 3).tolist() == [[False] * 4, [False, True, True, False]]
    assert largest_groups(found, 8, 4).tolist() == [[False] * 4, [True] * 4]


@given(GRADIENTS, st.integers(4, 24))
def test_groups_are_whole_and_hold_the_most_salient_columns(gradient, kappa):
    found = saliency(gradient)
    mask = largest_groups(found, kappa, 4)
    assert mask.sum() <= kappa // 4 * 4
    for row, kept in zip(found, mask, strict=True):
        assert kept.sum() % 4 == 0
        assert (*np.flatnonzero(kept),) == best_columns(row, kept.sum())


@given(GRADIENTS, st.integers(0, 30_000), st.booleans())
def test_a_walk_never_outspends_its_budget(gradient, budget, per_cost):
    rows = dict(zip("abc", (1000, 100, 10), strict=True))
    widths = (1, 2, 4, 8)
    salient = saliency(gradient)
    worths = {n: worth(s, widths) for n, s in zip(rows, salient, strict=True)}
    costs = {n: {w: w * num for w in widths} for n, num in rows.items()}
    found = walk(worths, costs, budget, per_cost=per_cost)
    assert sum(costs[n].get(w, 0) for n, w in found.items()) <= budget


@pytest.mark.parametrize("per_cost", [False, True])
def test_a_walk_passes_over_what_does_not_fit_to_the_width_that_needs_no_projection(per_cost):
    costs = {"day": {4: 908, 8: 1788, 12: 2668, 16: 476}}  # 7 rows, projected to 16
    worths = {"day": worth(np.full(16, 1 / 16), (4, 8, 12, 16))}
    assert walk(worths, costs, 500, per_cost=per_cost) == {"day": 16}
    assert walk(worths, costs, 475, per_cost=per_cost) == {"day": 0}


def test_more_pairs_than_there_are_are_refused():
    with pytest.raises(ValueError, match="kappa=10 pairs, expected 1 to 9"):
        largest_pairs(np.ones((3, 3)), 10)
    with pytest.raises(ValueError, match="6 columns cannot be cut into groups of 4"):
        largest_groups(np.ones((3, 6)), 8, 4)
