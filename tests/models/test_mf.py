"""Matrix factorization against float64 loops."""

import numpy as np

from models.mf import MF
from tests.models.examples import (
    PAIR,
    dense_parameters,
    embeddings_of,
    float64,
    inputs_of,
    vectors_of,
)


def mf_of(biases):
    model = MF(embeddings_of(PAIR), 0, biases=biases)
    dense, features = inputs_of(tuple(PAIR), num_dense=0)
    return model(dense, features), vectors_of(model, features), model


def test_mf_with_directions_is_two_of_them_and_a_dot():
    found, vectors, model = mf_of("direction")
    weight, bias = float64(model.biases.weight)[0], model.biases.bias.item()
    expected = [bias + weight[:8] @ u + weight[8:] @ i + u @ i for u, i in vectors]
    assert np.allclose(float64(found), expected, atol=1e-5)


def test_mf_with_columns_is_the_first_elements_and_a_dot_of_the_others():
    found, vectors, model = mf_of("column")
    expected = [u[0] + i[0] + sum(u[k] * i[k] for k in range(1, 8)) for u, i in vectors]
    assert np.allclose(float64(found), expected, atol=1e-5)
    assert dense_parameters(model) == []


def test_mf_without_biases_is_a_dot():
    found, vectors, model = mf_of("none")
    assert np.allclose(float64(found), [u @ i for u, i in vectors], atol=1e-5)
    assert dense_parameters(model) == []
