"""The finite difference of DARTS against the worked example and against exact derivatives."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from models.search.darts import architecture_gradient

GOLDEN = json.loads((Path(__file__).parents[2] / "golden/autodim.json").read_text())["darts_toy"]


@pytest.mark.parametrize("step_size", [0, 0.1])
def test_the_toy_of_the_specification(step_size):
    weight, choice = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))
    (found,) = architecture_gradient(
        lambda: 0.5 * (weight - choice).square().sum(),
        lambda: 0.5 * (weight - 2).square().sum(),
        weights=[weight],
        architecture=[choice],
        step_size=step_size,
    )
    assert float(found) == pytest.approx(GOLDEN[f"xi={step_size}"]["dalpha"], abs=1e-5)
    assert not weight.any()


def test_smooth_losses_have_the_gradient_of_an_unrolled_step():
    torch.manual_seed(0)
    start, inputs = torch.randn(5, dtype=torch.float64), torch.randn(2, 7, 5, dtype=torch.float64)
    weight, choice = nn.Parameter(start.clone()), nn.Parameter(torch.randn(5, dtype=torch.float64))

    def loss(part, w):
        return torch.tanh(inputs[part] * torch.sigmoid(choice) @ w - 0.3).square().mean()

    (found,) = architecture_gradient(
        lambda: loss(0, weight),
        lambda: loss(1, weight),
        weights=[weight],
        architecture=[choice],
        step_size=0.2,
    )
    inner = torch.autograd.grad(loss(0, weight), weight, create_graph=True)[0]
    (exact,) = torch.autograd.grad(loss(1, weight - 0.2 * inner), choice)
    assert torch.allclose(found, exact, rtol=1e-3, atol=1e-6)
    assert torch.equal(weight.detach(), start)
