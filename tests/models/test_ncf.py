"""NCF against a float64 loop."""

import numpy as np
import pytest

from models.ncf import NCF
from tests.models.examples import (
    PAIR,
    WIDTHS,
    embeddings_of,
    float64,
    inputs_of,
    layers_of,
    vectors_of,
)
from tests.oracles import mlp


@pytest.mark.parametrize("widths", [PAIR, WIDTHS])
def test_ncf_equals_a_float64_loop(widths):
    model = NCF(embeddings_of(widths, "concatenate"), 5, hidden=(9, 7))
    dense, features = inputs_of(tuple(widths))
    inputs = [
        np.concatenate([*fields, x])
        for fields, x in zip(vectors_of(model, features), float64(dense), strict=True)
    ]
    assert {len(x) for x in inputs} == {sum(widths.values()) + 5}
    expected = mlp(layers_of(model.layers), np.array(inputs), last_activation=False)[:, 0]
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)


def test_ncf_has_the_papers_three_layers_of_128():
    model = NCF(embeddings_of(PAIR, "concatenate"), 0)
    assert [layer.out_features for layer in model.layers] == [128, 128, 128, 1]
