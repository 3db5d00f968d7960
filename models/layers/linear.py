"""A linear layer that multiplies with the fastest fp32 routine this CPU has.

PyTorch's CPU builds send fp32 products to MKL, which runs at half speed on AMD processors. oneDNN,
shipped in the same builds, does not; but torch reaches it for fp32 only through the private
operator ``mkldnn::_linear_pointwise``. So it is used where it exists and gives the right answer
and is faster, and ``F.linear`` everywhere else: CUDA, other dtypes, empty batches, autocast.

The choice is one per process, made at the first use by a short measurement. Two routines round
differently, so the ranks of a job should agree: let one call ``set_matmul("auto")``, send
``active_matmul()`` to the others, and have them call `set_matmul` with it.

bf16 needs no layer of its own: under ``torch.autocast`` every matmul already goes through oneDNN.
`has_fast_bf16` says whether that pays on this CPU.
"""

# Shapes:  B batch, I in_features, O out_features

import time
from collections.abc import Callable
from functools import cache
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

Activation = Literal["none", "relu"]
Matmul = Literal["mkl", "onednn"]
"""``mkl``: torch's own ``F.linear`` (MKL in the usual builds). ``onednn``: the private operator."""

MIN_GAIN_RATIO: Final = 1.05
"""oneDNN must be faster by this factor; below it, the public operator is the safer choice."""


class _Choice:
    """The routine of this process; like ``torch.backends``, one for all layers."""

    matmul: Matmul | None = None


def set_matmul(choice: Literal["auto", "mkl", "onednn"]) -> Matmul:
    """Fix the fp32 routine of this process, and return it.

    Args:
        choice: A routine, or ``auto`` to measure which is faster.

    Raises:
        ValueError: If oneDNN is asked for and this build of torch cannot call it.
    """
    if choice == "onednn" and not has_onednn_linear():
        raise ValueError(
            "matmul='onednn', but this build of torch has no working mkldnn::_linear_pointwise; "
            "use 'auto' or 'mkl'"
        )
    _Choice.matmul = choose_matmul() if choice == "auto" else choice
    return _Choice.matmul


def active_matmul() -> Matmul:
    """The fp32 routine of this process; measured now if nobody has chosen yet."""
    return _Choice.matmul or set_matmul("auto")


def choose_matmul(rows: int = 2048, width: int = 256, repeats: int = 5) -> Matmul:
    """Measure both routines on one product, alternating, and name the faster (about 20 ms)."""
    if not has_onednn_linear():
        return "mkl"
    inputs, weight = torch.ones(rows, width), torch.ones(width, width)
    seconds: dict[Matmul, list[float]] = {"mkl": [], "onednn": []}
    for _ in range(repeats):
        seconds["mkl"].append(_time(lambda: functional.linear(inputs, weight)))
        seconds["onednn"].append(_time(lambda: _onednn_linear(inputs, weight)))
    # The minimum is what the routine can do; everything above it is the neighbours' doing.
    is_faster = min(seconds["mkl"]) > MIN_GAIN_RATIO * min(seconds["onednn"])
    return "onednn" if is_faster else "mkl"


@cache
def has_onednn_linear() -> bool:
    """Whether the private oneDNN operator exists here and computes ``relu(x @ w.T + b)``."""
    generator = torch.Generator().manual_seed(0)
    inputs, weight, bias = (
        torch.randn(*shape, generator=generator) for shape in ((3, 5), (4, 5), (4,))
    )
    try:
        found = _onednn_linear(inputs, weight, bias, "relu")
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.allclose(found, torch.relu(inputs @ weight.T + bias), atol=1e-5)


@cache
def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AVX512_BF16 or AMX); emulated, it is slow."""
    # The probes are private to torch.cpu and exist on x86 builds only.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in probes)


class Linear(nn.Linear):
    """``y = x W^T + b``, through the fastest fp32 matmul, with ReLU at no extra cost.

    Parameters, initialisation and state dict are those of `torch.nn.Linear`.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        bias: Whether to add ``b``.
        activation: Applied to ``y``; fused into the product where oneDNN computes it.
        device: Where parameters are created.

    Shape:
        - Input: ``(..., in_features)``.
        - Output: ``(..., out_features)``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        activation: Activation = "none",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device)
        self.activation: Activation = activation

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Linear
        """Multiply, add, activate."""
        return linear(input, self.weight, self.bias, self.activation)

    def folded(self, inputs: Tensor, fold: Callable[[Tensor], Tensor]) -> Tensor:
        """The same on inputs before a linear map that ``fold`` multiplies into the weight."""
        return linear(inputs, fold(self.weight), self.bias, self.activation)

    def extra_repr(self) -> str:
        """Name the activation beside the sizes."""
        return f"{super().extra_repr()}, activation={self.activation!r}"


# A leaf for torch.fx: a tracer must see one call, not the questions about devices and dtypes.
@torch.fx.wrap
def linear(
    inputs: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none"
) -> Tensor:
    """``F.linear`` and an activation, through the routine of this process."""
    if _fits_onednn(inputs, weight) and active_matmul() == "onednn":
        outputs: Tensor = _OneDnnLinear.apply(inputs, weight, bias, activation)  # type: ignore[no-untyped-call]
        return outputs
    outputs = functional.linear(inputs, weight, bias)
    return functional.relu(outputs, inplace=True) if activation == "relu" else outputs


def _fits_onednn(inputs: Tensor, weight: Tensor) -> bool:
    is_plain_cpu = inputs.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    is_fp32_matrix = inputs.dim() == 2 and inputs.dtype == weight.dtype == torch.float32
    return is_plain_cpu and is_fp32_matrix and inputs.shape[0] > 0


class _OneDnnLinear(torch.autograd.Function):
    """Forward and backward of a linear layer, all three products through oneDNN."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: Tensor, weight: Tensor, bias: Tensor | None, activation: str
    ) -> Tensor:
        outputs = _onednn_linear(inputs, weight, bias, activation)
        kept = (inputs, weight, outputs) if activation == "relu" else (inputs, weight)
        ctx.save_for_backward(*kept)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        inputs, weight, *activated = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_inputs, needs_weight, needs_bias, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        if activated:
            grad = torch.ops.aten.threshold_backward(grad, activated[0], 0)
        grad = grad.contiguous()  # oneDNN cannot read expanded gradients, such as those of sum()
        return (
            _onednn_linear(grad, weight.t()) if needs_inputs else None,
            _weight_grad(grad, inputs) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
            None,
        )


def _weight_grad(grad: Tensor, inputs: Tensor) -> Tensor:
    """``grad^T inputs`` (O, I), with the wider of both as the columns: up to four times faster."""
    if grad.shape[1] > inputs.shape[1]:
        return _onednn_linear(inputs.t(), grad.t()).t()
    return _onednn_linear(grad.t(), inputs.t())


def _onednn_linear(
    inputs: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none"
) -> Tensor:
    outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, activation, [], "")
    return outputs


def _time(call: Callable[[], object]) -> float:
    """CPU time, which neighbours on the machine lengthen less than time."""
    start = time.process_time()
    call()
    return time.process_time() - start
