"""A network and its loss, in the form that TorchRec's pipelines train."""

# Shapes:  B batch

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from models.base import CtrModel
from service.data.batch import Batch
from service.data.dataset import Task
from service.train.penalty import L2Penalty

StepOutput = tuple[Tensor, Tensor, Tensor]
"""Local loss, predictions and labels of a step, without gradients."""


class TrainTask(nn.Module):
    """Log loss of clicks or squared error of ratings, scaled to the mean of the global batch.

    The network predicts the deviation from a constant, the log odds of the training split's click
    ratio or its mean rating, so that learning starts from the best constant. Within a network's
    ``y_range`` deviation and constant are log odds of the rating between its bounds.

    Args:
        network: Scores examples.
        task: What labels are.
        label_mean: Mean label of the training split.
        bf16_on: Device type whose matrix products are bf16; weights and loss stay fp32. None for
            fp32 throughout.
        penalty: Regularisation of the looked-up vectors, which training minimises with the loss,
            but for steps of an architecture on examples of its own.
        clip: Bounds of predicted ratings; the loss is of what the network says.

    Shape:
        - Input: a `Batch` of size ``B``.
        - Output: what to minimise, a scalar, and ``(loss, predictions, labels)`` without
          gradients; the loss is without the penalty, predictions are probabilities or ratings,
          ``(B,)``.

    Raises:
        ValueError: If ratings are bounded and labels are clicks, or their mean is outside of the
            network's range.
    """

    constant: Tensor

    def __init__(
        self,
        network: CtrModel,
        task: Task,
        *,
        label_mean: float,
        bf16_on: str | None = None,
        penalty: L2Penalty | None = None,
        clip: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.penalty = penalty
        self.bf16_on = bf16_on
        self.is_click = task == "click"
        self.y_range = network.y_range
        self.clip = clip
        constant = label_mean
        if self.is_click:
            _check_unbounded(self.y_range, clip)
            constant = _log_odds(label_mean)
        elif self.y_range is not None:
            constant = _log_odds(_share_of_range(label_mean, self.y_range))
        # A buffer, so that a checkpoint keeps it: another dataset has another mean.
        self.register_buffer("constant", torch.tensor(constant))

    def forward(self, batch: Batch) -> tuple[Tensor, StepOutput]:
        """Score a batch and compare it with its labels."""
        fields = self.network.embeddings(batch.features, batch.weights)
        with torch.autocast(self.bf16_on or "cpu", torch.bfloat16, enabled=bool(self.bf16_on)):
            scores = self.network.score(batch.dense, fields)
        scores = self.outcomes(scores.float())
        loss_of = binary_cross_entropy_with_logits if self.is_click else mse_loss
        loss = (loss_of(scores, batch.labels, reduction="none") * batch.weights).sum()
        output = loss.detach(), self.predictions(scores).detach(), batch.labels.detach()
        if self.training:
            loss = self.network.embeddings.objective(loss)
        is_regularised = self.training and self.network.embeddings.turn.is_regularised
        if self.penalty is not None and is_regularised:
            vectors = fields.side_by_side
            loss = loss + self.penalty(vectors, batch.weights, batch.lookup_weights)
        return loss, output

    def outcomes(self, scores: Tensor) -> Tensor:
        """What the network's scores stand for: log odds of clicks, or ratings."""
        scores = scores + self.constant
        if self.y_range is None:
            return scores
        low, high = self.y_range
        return low + (high - low) * torch.sigmoid(scores)

    def predictions(self, outcomes: Tensor) -> Tensor:
        """Probabilities of clicks, or ratings within their bounds."""
        predictions = torch.sigmoid(outcomes) if self.is_click else outcomes
        return predictions if self.clip is None else predictions.clamp(*self.clip)


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(clipped / (1 - clipped))


def _check_unbounded(y_range: tuple[float, float] | None, clip: tuple[float, float] | None) -> None:
    if y_range is not None:
        raise ValueError(
            f"y_range={y_range} bounds ratings, and the labels are clicks; give "
            f"--network.y-range None"
        )
    if clip is not None:
        raise ValueError(f"clip={clip} bounds ratings, and the labels are clicks; leave it out")


def _share_of_range(rating: float, y_range: tuple[float, float]) -> float:
    low, high = y_range
    if not low < rating < high:
        raise ValueError(
            f"y_range={y_range}, but the mean label is {rating:.4g}; expected it in between: give "
            f"--network.y-range the lowest and highest rating, with some room on both sides"
        )
    return (rating - low) / (high - low)
