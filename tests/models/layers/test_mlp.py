"""The stack of linear layers."""

import pytest
import torch
from torch import nn

from models.layers import MLP


def test_matches_a_plain_float64_stack_in_output_and_gradients() -> None:
    torch.manual_seed(0)
    mlp, inputs = MLP(13, [32, 16, 1]), torch.randn(64, 13)
    sizes = [(13, 32), (32, 16), (16, 1)]
    plain = [module for i, o in sizes for module in (nn.Linear(i, o), nn.ReLU())]
    oracle = nn.Sequential(*plain[:-1]).double()
    for target, source in zip(oracle.parameters(), mlp.parameters(), strict=True):
        target.data.copy_(source)
    mlp(inputs).square().sum().backward()
    oracle(inputs.double()).square().sum().backward()
    for target, source in zip(oracle.parameters(), mlp.parameters(), strict=True):
        torch.testing.assert_close(source.grad.double(), target.grad, rtol=1e-4, atol=1e-4)


def test_the_last_layer_may_be_negative_unless_asked_otherwise() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 8)
    assert (MLP(8, [16, 4])(inputs) < 0).any()
    assert (MLP(8, [16, 4], last_activation=True)(inputs) >= 0).all()


def test_layers_in_between_are_not_linear() -> None:
    torch.manual_seed(0)
    mlp, inputs = MLP(8, [16, 4]), torch.randn(64, 8)
    zero = mlp(torch.zeros(1, 8))
    assert not torch.allclose(mlp(2 * inputs) - zero, 2 * (mlp(inputs) - zero), atol=1e-3)


def test_it_can_be_built_without_memory() -> None:
    assert MLP(8, [4], device="meta")[0].weight.is_meta


@pytest.mark.parametrize(("in_features", "layer_sizes"), [(8, []), (8, [4, 0]), (0, [4])])
def test_impossible_sizes_are_refused(in_features: int, layer_sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=f"in_features={in_features}, layer_sizes="):
        MLP(in_features, layer_sizes)
