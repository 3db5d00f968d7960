"""Moments against numpy and finite differences; several ranks: ``tests.searched_ranks``."""

import numpy as np
import pytest
import torch

from models.layers.moments import pooled_moments

WEIGHTS = (None, torch.tensor([2.0, 0.5, 0.0, 1.0, 0.0], dtype=torch.float64))


@pytest.fixture
def vectors():
    """Far from 0, where a mean left out of the covariance would show."""
    generator = torch.Generator().manual_seed(0)
    return 3 + torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_moments_are_those_of_the_examples_that_count(vectors, weights):
    num, mean, covariance = pooled_moments(vectors, weights)
    counted = vectors if weights is None else vectors[weights > 0]
    flat = counted.flatten(0, 1).numpy()
    assert num == len(flat)
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(flat.T, ddof=0), rtol=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_gradients_are_finite_differences(vectors, weights):
    def moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, mean, covariance = pooled_moments(values, weights)
        return mean, covariance

    assert torch.autograd.gradcheck(moments, vectors.requires_grad_())
