"""DLRM against a float64 loop and TorchRec's own."""

import numpy as np
import torch
from torchrec.models import dlrm as torchrec_dlrm

from models.dlrm import DLRM
from tests.models.examples import (
    EQUAL,
    WIDTHS,
    copy_weights,
    dense_parameters,
    embeddings_of,
    float64,
    inputs_of,
    layers_of,
    plain_tables,
    vectors_of,
)
from tests.oracles import mlp, pair_dots


def test_dlrm_equals_a_float64_loop():
    model = DLRM(embeddings_of(), 5, bottom=(7,), top=(9,))
    dense, features = inputs_of(WIDTHS)
    fields = np.array(vectors_of(model, features))
    vector = mlp(layers_of(model.dense_vector), float64(dense), last_activation=True)
    dots = pair_dots(np.concatenate([vector[:, None], fields], axis=1))
    top = np.concatenate([vector, dots], axis=1)
    expected = mlp(layers_of(model.top), top, last_activation=False)[:, 0]
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)


def test_dlrm_without_dense_inputs_learns_a_constant_instead():
    model = DLRM(embeddings_of(), 0, top=(9,))
    dense, features = inputs_of(WIDTHS, num_dense=0)
    vector = float64(model.dense_vector.weight)
    fields = vectors_of(model, features)
    dots = pair_dots(np.array([[vector, *of_example] for of_example in fields]))
    top = np.concatenate([np.tile(vector, (6, 1)), dots], axis=1)
    expected = mlp(layers_of(model.top), top, last_activation=False)[:, 0]
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)


def test_uniform_dlrm_equals_torchrecs_own_in_forward_and_gradient():
    model = DLRM(embeddings_of(EQUAL), 5, bottom=(7,), top=(9,))
    twin = torchrec_dlrm.DLRM(
        embedding_bag_collection=plain_tables(model),
        dense_in_features=5,
        dense_arch_layer_sizes=[7, 8],
        over_arch_layer_sizes=[9, 1],
    )
    copy_weights(dense_parameters(model), dense_parameters(twin))
    dense, features = inputs_of(EQUAL, batch=32)
    found, expected = model(dense, features), twin(dense, features).squeeze(1)
    assert torch.allclose(found, expected, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    tables = zip(
        model.embeddings.tables.parameters(),
        twin.sparse_arch.embedding_bag_collection.parameters(),
        strict=True,
    )
    layers = zip(dense_parameters(model), dense_parameters(twin), strict=True)
    for mine, other in [*tables, *layers]:
        assert torch.allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-4)
