"""The factorization machine against the double sum of its paper."""

import numpy as np
import pytest
import torch

from models.fm import FM, pairwise_interactions
from models.layers.dots import PairwiseDots
from tests.models.examples import GOLDEN, WIDTHS, embeddings_of, float64, inputs_of, vectors_of


def test_the_identity_holds_on_the_golden_value():
    vectors = torch.tensor([GOLDEN["fm_identity"]["vectors"]])
    total, squares = vectors.sum(dim=1), vectors.square().sum(dim=(1, 2))
    assert pairwise_interactions(total, squares).item() == GOLDEN["fm_identity"]["value"]
    assert PairwiseDots(3)(vectors).sum().item() == GOLDEN["fm_identity"]["value"]


def double_sum(vectors, values):
    """``sum_{i<j} <v_i, v_j> x_i x_j``."""
    count = len(values)
    return sum(
        (vectors[i] @ vectors[j]) * values[i] * values[j]
        for i in range(count)
        for j in range(i + 1, count)
    )


@pytest.mark.parametrize("num_dense", [0, 5])
def test_fm_equals_the_papers_double_sum(num_dense):
    model = FM(embeddings_of(), num_dense)
    if num_dense:
        torch.nn.init.normal_(model.dense_factors)
    factors = float64(model.dense_factors) if num_dense else []
    dense, features = inputs_of(WIDTHS, num_dense=num_dense)
    weight, bias = float64(model.linear.weight)[0], model.linear.bias.item()
    expected = [
        bias
        + weight @ np.concatenate([*fields, x])
        + double_sum([*fields, *factors], [1.0] * len(fields) + list(x))
        for fields, x in zip(vectors_of(model, features), float64(dense), strict=True)
    ]
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)
