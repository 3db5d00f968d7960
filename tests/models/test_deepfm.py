"""DeepFM against a float64 loop."""

import numpy as np

from models.deepfm import DeepFM
from tests.models.examples import WIDTHS, embeddings_of, float64, inputs_of, layers_of, vectors_of
from tests.oracles import mlp, pair_dots


def test_deepfm_equals_a_float64_loop():
    model = DeepFM(embeddings_of(), 5, hidden=(7, 9))
    dense, features = inputs_of(WIDTHS)
    fields = np.array(vectors_of(model, features))
    inputs = np.concatenate([fields.reshape(6, -1), float64(dense)], axis=1)
    first = mlp(layers_of([model.first_order]), inputs, last_activation=False)[:, 0]
    deep = mlp(layers_of(model.deep), inputs, last_activation=False)[:, 0]
    expected = first + deep + pair_dots(fields).sum(axis=1)
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)
