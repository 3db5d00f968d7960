"""EmbeddingDotBias against fastai's formula, its tables apart, and its number of parameters."""

import numpy as np

from models.dotbias import DotBias
from tests.models.examples import GOLDEN, embeddings_of, fastai_embeddings, float64, inputs_of


def test_dotbias_is_the_formula_of_fastai():
    """``(u * v).sum(1) + b_u + b_v``, the biases read as tables of their own."""
    model = DotBias(embeddings_of({"a": 8, "b": 8}), 0)
    dense, features = inputs_of(("a", "b"), num_dense=0)
    a, b = (float64(bag.weight) for bag in model.embeddings.tables.embedding_bags.values())
    a_bias, b_bias, a, b = a[:, 0], b[:, 0], a[:, 1:], b[:, 1:]
    ids = zip(*features.values().view(2, -1).tolist(), strict=True)
    expected = [sum(a[u] * b[v]) + a_bias[u] + b_bias[v] for u, v in ids]
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)


def test_dotbias_of_50_factors_has_as_many_parameters_as_fastais():
    model = DotBias(fastai_embeddings(51, 51), 0)
    assert sum(p.numel() for p in model.parameters()) == GOLDEN["dotbias_50_parameters"]


def test_a_narrow_table_keeps_its_bias_in_the_first_column():
    model = DotBias(embeddings_of({"a": 8, "b": 4}), 0)
    narrow = model.embeddings.unify.projections[0][0]
    narrow.data.zero_().fill_diagonal_(1.0)  # as projections start
    dense, features = inputs_of(("a", "b"), num_dense=0)
    a, b = (float64(bag.weight) for bag in model.embeddings.tables.embedding_bags.values())
    ids = zip(*features.values().view(2, -1).tolist(), strict=True)
    expected = [a[u, 0] + b[v, 0] + a[u, 1:4] @ b[v, 1:] for u, v in ids]
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-5)
