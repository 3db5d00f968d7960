"""Every route of the linear layer against float64 `torch.nn.Linear`."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.layers import linear as routes
from models.layers.linear import Linear, active_matmul, choose_matmul, set_matmul

needs_onednn = pytest.mark.skipif(
    not routes.has_onednn_linear(), reason="this torch cannot call oneDNN's linear"
)


@pytest.fixture(autouse=True)
def _restore_choice() -> Iterator[None]:
    before = routes._Choice.matmul
    yield
    routes._Choice.matmul = before


@pytest.fixture(params=["mkl", pytest.param("onednn", marks=needs_onednn)])
def matmul(request: pytest.FixtureRequest) -> routes.Matmul:
    return set_matmul(request.param)


def oracle_of(layer: Linear) -> nn.Module:
    """The same layer as plain torch modules in float64."""
    oracle = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    oracle.load_state_dict(layer.state_dict())
    return nn.Sequential(
        oracle, nn.ReLU() if layer.activation == "relu" else nn.Identity()
    ).double()


def outcome(module: nn.Module, inputs: Tensor, weights: Tensor) -> list[Tensor]:
    """The output, the gradient of the input and of every parameter, for a weighted sum."""
    inputs = inputs.clone().requires_grad_()
    outputs = module(inputs)
    (outputs * weights).sum().backward()
    grads = [parameter.grad for parameter in module.parameters()]
    return [tensor.double() for tensor in (outputs.detach(), inputs.grad, *grads)]


SHAPES = [(64, 13, 32), (64, 32, 13), (1, 5, 3), (33, 40, 1), (7, 1, 9)]


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_gradients_match_float64(
    matmul: str, shape: tuple[int, int, int], bias: bool, activation: routes.Activation
) -> None:
    torch.manual_seed(0)
    layer = Linear(shape[1], shape[2], bias=bias, activation=activation)
    inputs, weights = torch.randn(shape[0], shape[1]), torch.randn(shape[0], shape[2])
    expected = outcome(oracle_of(layer), inputs.double(), weights.double())
    found = outcome(layer, inputs, weights)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


def test_bf16_autocast_stays_within_its_eight_bits(matmul: str) -> None:
    torch.manual_seed(0)
    layer = Linear(64, 32, activation="relu")
    inputs, weights = torch.randn(128, 64), torch.randn(128, 32)
    expected = outcome(oracle_of(layer), inputs.double(), weights.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(inputs).dtype == torch.bfloat16
    forward = torch.autocast("cpu", dtype=torch.bfloat16)(layer.forward)
    layer.forward = forward  # type: ignore[method-assign]
    for ours, theirs in zip(outcome(layer, inputs, weights), expected, strict=True):
        assert (ours - theirs).norm() < 0.05 * theirs.norm()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_onednn_really_computes_when_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    if not routes.has_onednn_linear():
        pytest.skip("this torch cannot call oneDNN's linear")
    set_matmul("onednn")
    calls = []
    plain = routes._onednn_linear
    monkeypatch.setattr(routes, "_onednn_linear", lambda *a: calls.append(a) or plain(*a))
    outcome(Linear(4, 3), torch.randn(2, 4), torch.randn(2, 3))
    assert len(calls) == 3  # output, gradient of the input, gradient of the weight


def test_expanded_gradients_are_read(matmul: str) -> None:
    layer = Linear(4, 3)
    layer(torch.randn(5, 4)).sum().backward()
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [5, 5, 5]


def test_an_empty_batch_gives_zero_gradients(matmul: str) -> None:
    layer = Linear(4, 3, activation="relu")
    outputs = layer(torch.empty(0, 4))
    outputs.sum().backward()
    assert outputs.shape == (0, 3)
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() == 0


def test_other_ranks_and_dtypes_go_the_public_way(matmul: str) -> None:
    layer, inputs = Linear(4, 3), torch.randn(2, 5, 4)
    expected = layer(inputs.flatten(0, 1)).unflatten(0, (2, 5))
    torch.testing.assert_close(layer(inputs), expected)
    torch.testing.assert_close(layer.double()(inputs.double()).float(), expected)


def test_without_grad_gives_the_same_output(matmul: str) -> None:
    layer, inputs = Linear(8, 8, activation="relu"), torch.randn(16, 8)
    with torch.no_grad():
        silent = layer(inputs)
    assert torch.equal(silent, layer(inputs))
    assert not silent.requires_grad


def test_activation_checkpointing_gives_the_same_gradients(matmul: str) -> None:
    layer, inputs = Linear(8, 8, activation="relu"), torch.randn(16, 8)
    again = copy.deepcopy(layer)
    layer(inputs).sum().backward()
    checkpoint(again, inputs, use_reentrant=False).sum().backward()
    assert layer.weight.grad is not None
    assert again.weight.grad is not None
    assert torch.equal(layer.weight.grad, again.weight.grad)


def test_symbolic_tracing_sees_one_call(matmul: str) -> None:
    layer, inputs = Linear(4, 3, activation="relu"), torch.randn(2, 4)
    tracer = torch.fx.Tracer()
    tracer.is_leaf_module = lambda module, name: False  # type: ignore[method-assign]
    graph = tracer.trace(layer)
    assert [n.target for n in graph.nodes if n.op == "call_function"] == [routes.linear]
    assert torch.equal(torch.fx.GraphModule(layer, graph)(inputs), layer(inputs))


def test_the_state_dict_is_that_of_torch() -> None:
    layer = Linear(4, 3, activation="relu")
    plain = nn.Linear(4, 3)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(plain.weight, layer.weight)


def test_the_same_seed_starts_as_torch_does() -> None:
    torch.manual_seed(3)
    ours = Linear(4, 3)
    torch.manual_seed(3)
    assert torch.equal(ours.weight, nn.Linear(4, 3).weight)


def test_a_forced_choice_is_kept(matmul: str) -> None:
    assert active_matmul() == matmul


def test_auto_measures_once_and_keeps_the_result() -> None:
    chosen = set_matmul("auto")
    assert chosen in ("mkl", "onednn")
    assert active_matmul() == chosen


def test_the_faster_routine_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    if not routes.has_onednn_linear():
        pytest.skip("this torch cannot call oneDNN's linear")
    seconds = iter([1.0, 2.0] * 5)
    monkeypatch.setattr(routes, "_time", lambda call: next(seconds))
    assert choose_matmul() == "mkl"
    seconds = iter([2.0, 1.0] * 5)
    assert choose_matmul() == "onednn"


def test_a_torch_without_the_operator_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "has_onednn_linear", lambda: False)
    assert set_matmul("auto") == "mkl"
    with pytest.raises(ValueError, match="matmul='onednn', but this build of torch"):
        set_matmul("onednn")


def test_an_operator_with_another_signature_counts_as_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*_: object) -> Tensor:
        raise RuntimeError("mkldnn::_linear_pointwise() expected at most 5 argument(s)")

    monkeypatch.setattr(routes, "_onednn_linear", gone)
    assert not routes.has_onednn_linear.__wrapped__()


def test_fast_bf16_follows_the_flags_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in (((False, False), False), ((True, False), True), ((False, True), True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda flag=flags[0]: flag)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda flag=flags[1]: flag)
        assert routes.has_fast_bf16.__wrapped__() is expected
