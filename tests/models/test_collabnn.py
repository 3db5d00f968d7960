"""CollabNN against a float64 loop and fastbook's number of parameters."""

import numpy as np

from models.collabnn import CollabNN
from tests.models.examples import (
    GOLDEN,
    PAIR,
    embeddings_of,
    fastai_embeddings,
    float64,
    inputs_of,
    layers_of,
    vectors_of,
)
from tests.oracles import mlp


def test_collabnn_equals_a_float64_loop():
    model = CollabNN(embeddings_of(PAIR, "concatenate"), 2, num_hidden=7)
    dense, features = inputs_of(tuple(PAIR), num_dense=2)
    inputs = [
        np.concatenate([u, i, x])
        for (u, i), x in zip(vectors_of(model, features), float64(dense), strict=True)
    ]
    assert {len(x) for x in inputs} == {8 + 4 + 2}
    expected = mlp(layers_of(model.layers), np.array(inputs), last_activation=False)[:, 0]
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)


def test_collabnn_at_fastais_widths_has_as_many_parameters_as_fastbooks():
    model = CollabNN(fastai_embeddings(74, 101), 0)
    assert sum(p.numel() for p in model.parameters()) == GOLDEN["collabnn_parameters"]
