"""The gradient of an architecture through the step that the weights take under it."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

Loss = Callable[[], Tensor]

RADIUS: Final = 0.01
"""Length of the step to both sides of the weights that the difference is taken over."""


def architecture_gradient(
    train_loss: Loss,
    validation_loss: Loss,
    *,
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    step_size: float,
) -> list[Tensor]:
    """DARTS: what the validation loss of weights one step of gradient descent on loses to ``a``.

        w' = w - xi grad_w L_train(w, a),    w+- = w +- eps grad_w' L_val(w', a)
        grad_a L_val(w', a) - xi (grad_a L_train(w+, a) - grad_a L_train(w-, a)) / (2 eps)

    Parameters are moved in place and set back to what they were, to the bit; their ``.grad`` is
    left behind as it comes. Four passes; with ``xi = 0``, the first order, a single one.

    Args:
        train_loss: Of a training batch, at the parameters as they are.
        validation_loss: Of a validation batch.
        weights: What steps back and forth: no weight may move by itself in a backward pass, as
            tables of fused kernels do.
        architecture: What the gradient is of.
        step_size: ``xi``.

    Source:
        Liu, Simonyan, Yang, *DARTS: Differentiable Architecture Search*, ICLR 2019,
        arXiv:1806.09055, equations 7 and 8.
    """
    if not step_size:
        return _gradients(validation_loss, architecture)
    before = [weight.detach().clone() for weight in weights]
    ahead = _gradients(train_loss, weights)
    _place(weights, before, ahead, -step_size)
    both = _gradients(validation_loss, [*weights, *architecture])
    of_weights, direct = both[: len(weights)], both[len(weights) :]
    norm = torch.sqrt(sum((g.double().square().sum() for g in of_weights), torch.tensor(0.0)))
    if not norm:
        _place(weights, before, of_weights, 0.0)
        return direct
    reach = RADIUS / float(norm)
    _place(weights, before, of_weights, reach)
    above = _gradients(train_loss, architecture)
    _place(weights, before, of_weights, -reach)
    below = _gradients(train_loss, architecture)
    for weight, value in zip(weights, before, strict=True):
        weight.data.copy_(value)
    return [
        at - step_size * (up - down) / (2 * reach)
        for at, up, down in zip(direct, above, below, strict=True)
    ]


def _gradients(loss: Loss, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients by an ordinary backward pass, which averages them over the ranks of a job."""
    value = loss()
    for parameter in parameters:
        parameter.grad = None
    value.backward()  # type: ignore[no-untyped-call]
    return [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in parameters]


def _place(
    weights: Sequence[Tensor], origin: Sequence[Tensor], along: Sequence[Tensor], by: float
) -> None:
    for weight, start, direction in zip(weights, origin, along, strict=True):
        weight.data.copy_(start).add_(direction, alpha=by)
