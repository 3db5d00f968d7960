"""What AutoDim makes of a choice that is learned."""

import numpy as np
import pytest

from models.tables import Block, SizingPlan
from service.search.methods.autodim import likeliest, log_softmax
from tests.models.search.test_autodim import GOLDEN


def test_hard_choices_are_the_smallest_of_the_likeliest():
    golden, widths = GOLDEN["autodim_argmax"], (2, 8, 16, 24, 32)
    found = [likeliest(dict(zip(widths, row, strict=True))) for row in golden["alpha"]]
    assert found == golden["dims"]


def test_values_are_logarithms_of_shares():
    theta = GOLDEN["autodim_gumbel"]["theta"]
    shares = np.exp(log_softmax([theta, [0.0, 800.0, 0.0, 0.0, 0.0]]))
    assert shares[0].tolist() == pytest.approx(GOLDEN["autodim_gumbel"]["alpha"])
    assert shares[1].tolist() == [0, 1, 0, 0, 0]


def test_parameters_are_counted_from_widths():
    golden = GOLDEN["autodim_EP"]
    blocks = {
        f"f{n}": (Block(num_embeddings=n, embedding_dim=d, asked_dim=d),)
        for n, d in ((100, 8), (1000, 2), (10, 32))
    }
    tables = SizingPlan(fields=blocks, out_dim=32).tables()
    assert sum(t.num_embeddings * t.embedding_dim for t in tables) == golden["EP"]
