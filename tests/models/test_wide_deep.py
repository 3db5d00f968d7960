"""Wide & Deep against a float64 loop."""

import numpy as np

from models.wide_deep import WideDeep
from tests.models.examples import WIDTHS, embeddings_of, float64, inputs_of, layers_of, vectors_of
from tests.oracles import mlp


def test_wide_deep_equals_a_float64_loop():
    model = WideDeep(embeddings_of(join="concatenate"), 5, hidden=(7, 9))
    dense, features = inputs_of(WIDTHS)
    weight, bias = float64(model.wide.weight)[0], model.wide.bias.item()
    expected = []
    for fields, x in zip(vectors_of(model, features), float64(dense), strict=True):
        starts = np.cumsum([0, *map(len, fields)])
        wide = sum(
            v @ weight[start : start + len(v)] for v, start in zip(fields, starts[:-1], strict=True)
        )
        inputs = np.concatenate([*fields, x])
        deep = mlp(layers_of(model.deep), inputs[None], last_activation=False)[0, 0]
        expected.append(bias + wide + weight[starts[-1] :] @ x + deep)
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)
