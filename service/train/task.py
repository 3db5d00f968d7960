"""A network and its loss, in the form that TorchRec's pipelines train."""

# Shapes:  B batch

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from models.base import CtrModel
from service.data.batch import Batch
from service.data.dataset import Task

StepOutput = tuple[Tensor, Tensor, Tensor]
"""Local loss, predictions and labels of a step, without gradients."""


class TrainTask(nn.Module):
    """Log loss of clicks or squared error of ratings, scaled to the mean of the global batch.

    The network predicts the deviation from a constant, the log odds of the training split's click
    ratio or its mean rating, so that learning starts from the best constant.

    Args:
        network: Scores examples.
        task: What labels are.
        label_mean: Mean label of the training split.
        bf16_on: Device type whose matrix products are bf16; weights and loss stay fp32. None for
            fp32 throughout.

    Shape:
        - Input: a `Batch` of size ``B``.
        - Output: the local loss, a scalar, and ``(loss, predictions, labels)`` without gradients;
          predictions are probabilities or ratings, ``(B,)``.
    """

    constant: Tensor

    def __init__(
        self, network: CtrModel, task: Task, *, label_mean: float, bf16_on: str | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.bf16_on = bf16_on
        self.is_click = task == "click"
        # A buffer, so that a checkpoint keeps it: another dataset has another mean.
        constant = _log_odds(label_mean) if self.is_click else label_mean
        self.register_buffer("constant", torch.tensor(constant))

    def forward(self, batch: Batch) -> tuple[Tensor, StepOutput]:
        """Score a batch and compare it with its labels."""
        with torch.autocast(self.bf16_on or "cpu", torch.bfloat16, enabled=bool(self.bf16_on)):
            scores = self.network(batch.dense, batch.features)
        scores = scores.float() + self.constant
        loss_of = binary_cross_entropy_with_logits if self.is_click else mse_loss
        loss = (loss_of(scores, batch.labels, reduction="none") * batch.weights).sum()
        predictions = torch.sigmoid(scores) if self.is_click else scores
        return loss, (loss.detach(), predictions.detach(), batch.labels.detach())


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(clipped / (1 - clipped))
