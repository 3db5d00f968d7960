"""A step of the architecture that looks a step of the weights ahead, by `models.search.darts`."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor

from models.search.darts import architecture_gradient
from models.turn import Turn, announce
from service.data.batch import Batch
from service.train.optimizers import Optimizers


class LookAhead:
    """Gradients of the architecture by finite difference, on any number of ranks.

    Weights go back and forth on every rank alike and end where they were, to the bit; so do running
    figures. Tables must be parameters like others: copies on every rank, moved by torch.

    Args:
        model: A sharded `TrainTask`, not rewritten by a pipeline when it is asked.
        optimizer: Of all weights.
        step_size: Of the step ahead.
        device: Where batches go.

    Raises:
        ValueError: If a kernel moves tables in its backward pass.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizers, *, step_size: float, device: torch.device
    ) -> None:
        if any(isinstance(weight, ShardedTensor) for weight in model.state_dict().values()):
            raise ValueError(
                f"step_size={step_size} moves weights ahead and back, and FBGEMM moves tables in "
                f"every backward pass; give --sharding.types data_parallel, or step_size 0"
            )
        self._model, self._step_size, self._device = model, step_size, device
        self._weights, self._architecture = optimizer.parts()

    def differentiate(self, train: Batch, other: Batch, turn: Turn) -> None:
        """Leave the gradient of the architecture in its parameters, and none in the weights.

        Args:
            train: What the weights would learn from, by all that training minimises.
            other: What the architecture is judged by.
            turn: The step of the architecture; all passes have its noise.
        """
        ahead = replace(turn, moves_weights=True)  # else there were no gradients of the tables
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        found = architecture_gradient(
            lambda: self._loss(train, replace(ahead, is_regularised=True)),
            lambda: self._loss(other, ahead),
            weights=self._weights,
            architecture=self._architecture,
            step_size=self._step_size,
        )
        for buffer, value in buffers:
            buffer.copy_(value)
        _leave(self._weights, [None] * len(self._weights))
        _leave(self._architecture, found)

    def _loss(self, batch: Batch, turn: Turn) -> Tensor:
        announce(turn, self._model)
        loss: Tensor = self._model(batch.to(self._device))[0]
        return loss


def _leave(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
