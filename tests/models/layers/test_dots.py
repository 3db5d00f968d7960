"""Pairwise dots against loops and autograd in float64."""

import pytest
import torch
from torch import Tensor

from models.layers import PairwiseDots


def looped(vectors: Tensor) -> Tensor:
    """Every pair by hand, in the order of the upper triangle."""
    count = vectors.shape[1]
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    return torch.stack([(vectors[:, i] * vectors[:, j]).sum(1) for i, j in pairs], dim=1)


@pytest.mark.parametrize("num_vectors", [2, 3, 27])
def test_dots_and_their_gradient_match_a_float64_loop(num_vectors: int) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(8, num_vectors, 4, requires_grad=True)
    exact = vectors.detach().double().requires_grad_()
    weights = torch.randn(8, num_vectors * (num_vectors - 1) // 2)
    found = PairwiseDots(num_vectors)(vectors)
    (found * weights).sum().backward()
    expected = looped(exact)
    (expected * weights).sum().backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(vectors.grad.double(), exact.grad, rtol=1e-5, atol=1e-5)


def test_dots_are_fp32_under_bf16_autocast_on_cpu() -> None:
    vectors = torch.randn(4, 3, 2).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dots = PairwiseDots(3)(vectors)
    dots.sum().backward()
    assert dots.dtype == torch.float32
    assert vectors.grad.dtype == torch.bfloat16
    torch.testing.assert_close(dots, looped(vectors.detach().float()))


def test_an_empty_batch_has_no_dots() -> None:
    vectors = torch.empty(0, 3, 2, requires_grad=True)
    dots = PairwiseDots(3)(vectors)
    dots.sum().backward()
    assert dots.shape == (0, 3)
    assert vectors.grad.shape == (0, 3, 2)


def test_the_positions_are_not_part_of_a_checkpoint() -> None:
    assert not PairwiseDots(3).state_dict()


def test_a_single_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="num_vectors=1, expected at least 2"):
        PairwiseDots(1)
