"""DCN-V2 against the paper's formula, entry by entry, and a model of TorchRec's modules."""

import numpy as np
import pytest
import torch
from torchrec.models.dlrm import OverArch, SparseArch
from torchrec.modules.crossnet import LowRankCrossNet

from models.dcnv2 import DCNv2
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
from tests.oracles import mlp


def matrices_of(cross, rank):
    """``(W_l, b_l)`` of every layer."""
    if rank:
        products = zip(cross.W_kernels, cross.V_kernels, strict=True)
        weights = [float64(left) @ float64(right) for left, right in products]
    else:
        weights = [float64(kernel) for kernel in cross.kernels]
    return list(zip(weights, [float64(bias).ravel() for bias in cross.bias], strict=True))


def crossed(x0, matrices):
    """``x_{l+1} = x_0 * (W_l x_l + b_l) + x_l``, one entry at a time."""
    x, size = list(x0), len(x0)
    for weight, bias in matrices:
        dots = [sum(weight[i, j] * x[j] for j in range(size)) for i in range(size)]
        x = [x0[i] * (dots[i] + bias[i]) + x[i] for i in range(size)]
    return np.array(x)


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize("rank", [0, 3])
def test_dcnv2_equals_the_papers_formula(structure, rank):
    torch.manual_seed(0)
    model = DCNv2(
        embeddings_of(join="concatenate"),
        5,
        cross_layers=2,
        cross_rank=rank,
        hidden=(7, 9),
        structure=structure,
    )
    for bias in model.cross.bias:
        torch.nn.init.normal_(bias)
    dense, features = inputs_of(WIDTHS)
    expected = []
    for fields, x in zip(vectors_of(model, features), float64(dense), strict=True):
        inputs = np.concatenate([*fields, x])
        assert len(inputs) == 8 + 4 + 8 + 5
        crosses = crossed(inputs, matrices_of(model.cross, rank))
        below = crosses if structure == "stacked" else inputs
        deep = mlp(layers_of(model.deep), below[None], last_activation=True)[0]
        last = deep if structure == "stacked" else np.concatenate([crosses, deep])
        expected.append(float64(model.last.weight)[0] @ last + model.last.bias.item())
    assert np.allclose(float64(model(dense, features)), expected, atol=1e-4)


class TorchRecTwin(torch.nn.Module):
    """DCN-V2, stacked, of TorchRec's modules alone."""

    def __init__(self, tables, num_inputs):
        super().__init__()
        self.fields = SparseArch(tables)
        self.cross = LowRankCrossNet(num_inputs, num_layers=3, low_rank=4)
        self.over = OverArch(num_inputs, layer_sizes=[9, 7, 1])

    def forward(self, dense, features):
        fields = self.fields(features).flatten(1)
        return self.over(self.cross(torch.cat([fields, dense], dim=1))).squeeze(1)


def test_uniform_dcnv2_equals_torchrecs_modules_in_forward_and_gradient():
    model = DCNv2(
        embeddings_of(EQUAL, "concatenate"), 5, cross_layers=3, cross_rank=4, hidden=(9, 7)
    )
    twin = TorchRecTwin(plain_tables(model), 3 * 8 + 5)
    copy_weights(dense_parameters(model), dense_parameters(twin))
    dense, features = inputs_of(EQUAL, batch=32)
    found, expected = model(dense, features), twin(dense, features)
    assert torch.allclose(found, expected, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    tables = zip(model.embeddings.tables.parameters(), twin.fields.parameters(), strict=True)
    layers = zip(dense_parameters(model), dense_parameters(twin), strict=True)
    for mine, other in [*tables, *layers]:
        assert torch.allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-4)
