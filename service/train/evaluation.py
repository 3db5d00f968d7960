"""Evaluation of a model on a split: every row once, on all ranks, judged on the first."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torchmetrics.functional.classification import binary_auroc
from torchrec.metrics.metric_module import RecMetricModule, generate_metric_module
from torchrec.metrics.metrics_config import (
    DefaultTaskInfo,
    MetricsConfig,
    RecMetricDef,
    RecMetricEnum,
)

from service.data.dataset import Task
from service.data.loader import Loader
from service.distributed import Ranks

CHUNK_ROWS = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class ClickScores:
    """How good predicted click probabilities are."""

    auc: float
    """Area under the ROC curve, exact, ties counted half."""
    log_loss: float
    """Mean negative log likelihood, in nats."""
    ne: float
    """Normalised entropy: log loss over that of predicting the mean label."""
    calibration: float
    """Mean prediction over mean label."""
    num_rows: int

    @property
    def headline(self) -> tuple[str, float]:
        """The figure that decides which epoch is best, larger is better."""
        # Labels of one kind have no AUC.
        return ("-log_loss", -self.log_loss) if math.isnan(self.auc) else ("auc", self.auc)


@dataclass(frozen=True, kw_only=True, slots=True)
class RatingScores:
    """How good predicted ratings are."""

    mse: float
    """Mean squared error."""
    rmse: float
    """Its root, in the unit of the rating."""
    num_rows: int

    @property
    def headline(self) -> tuple[str, float]:
        """The figure that decides which epoch is best, larger is better."""
        return "-mse", -self.mse


Scores = ClickScores | RatingScores


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What a model says of the rows of a split, in their order."""

    predictions: npt.NDArray[np.float32]
    """Probabilities or ratings, ``(n,)``."""
    labels: npt.NDArray[np.float32]
    """``(n,)``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hooks:
    """Whom an evaluation tells of its progress."""

    on_batch: Callable[[int], None] | None = None
    """Called before every batch with its number; may raise, on all ranks alike."""
    on_predicted: Callable[[Predicted], None] | None = None
    """Called on the first rank with the predictions of all ranks."""


NO_HOOKS: Final = Hooks()


def evaluate(
    model: nn.Module, loader: Loader, ranks: Ranks, task: Task, hooks: Hooks = NO_HOOKS
) -> Scores:
    """Predict every row of the loader's split and score the predictions of all ranks.

    Args:
        model: A `TrainTask`, sharded or not; not rewritten by a pipeline (`pipeline.detach`).
        loader: The split to read, not shuffled.
        ranks: The ranks that hold the model.
        task: What labels are.
        hooks: Who is told of its progress.

    Raises:
        FloatingPointError: If a prediction is not a number.
    """
    predicted = predict(model, loader, ranks, on_batch=hooks.on_batch)

    def judge() -> Scores:
        scores = score(predicted.predictions, predicted.labels, task)
        if hooks.on_predicted is not None:
            hooks.on_predicted(predicted)
        return scores

    return ranks.from_first(judge)


@torch.no_grad()
def predict(
    model: nn.Module,
    loader: Loader,
    ranks: Ranks,
    *,
    on_batch: Callable[[int], None] | None = None,
) -> Predicted:
    """Predict every row of the loader's split; the first rank gets those of all ranks.

    Args:
        model: A `TrainTask`, sharded or not; not rewritten by a pipeline (`pipeline.detach`).
        loader: The split to read, not shuffled.
        ranks: The ranks that hold the model.
        on_batch: Called before every batch with its number; may raise, on all ranks alike.
    """
    was_training = model.training
    model.eval()
    predictions, labels = [], []
    for number, batch in enumerate(loader.batches()):
        if on_batch is not None:
            on_batch(number)
        _, (_, predicted, _) = model(batch.to(ranks.device))
        is_example = (batch.weights > 0).numpy()
        predictions.append(predicted.cpu().numpy()[is_example])
        labels.append(batch.labels.numpy()[is_example])
    model.train(was_training)
    parts = ranks.gather((predictions, labels))
    return Predicted(
        predictions=_in_order([part[0] for part in parts]),
        labels=_in_order([part[1] for part in parts]),
    )


def _in_order(ranks: Sequence[Sequence[npt.NDArray[np.float32]]]) -> npt.NDArray[np.float32]:
    """Values by rank and batch in the order of the split: by batch, then by rank."""
    return np.concatenate([share for batch in zip(*ranks, strict=True) for share in batch])


def score(
    predictions: npt.NDArray[np.float32], labels: npt.NDArray[np.float32], task: Task
) -> Scores:
    """Judge predictions by `torchrec.metrics`, and by the exact area under the curve.

    Args:
        predictions: Probabilities or ratings, ``(n,)``.
        labels: ``(n,)``.
        task: What labels are.
    """
    num_rows = len(labels)
    if not np.isfinite(predictions).all():
        raise FloatingPointError(
            "predictions are not numbers, so weights are not either; lower the learning rates, "
            "delete checkpoints of the last steps, and go on with --resume"
        )
    if task == "rating":
        lifetime = _lifetime([RecMetricEnum.MSE], predictions, labels)
        return RatingScores(mse=lifetime["mse"], rmse=lifetime["rmse"], num_rows=num_rows)
    lifetime = _lifetime([RecMetricEnum.NE, RecMetricEnum.CALIBRATION], predictions, labels)
    has_both = 0 < labels.sum() < num_rows
    return ClickScores(
        auc=float(binary_auroc(torch.from_numpy(predictions), torch.from_numpy(labels).long()))
        if has_both
        else math.nan,
        log_loss=lifetime["logloss"] * math.log(2),  # torchrec counts in bits
        ne=lifetime["ne"],
        calibration=lifetime["calibration"],
        num_rows=num_rows,
    )


def _lifetime(
    wanted: list[RecMetricEnum],
    predictions: npt.NDArray[np.float32],
    labels: npt.NDArray[np.float32],
) -> dict[str, float]:
    """Values of torchrec's metrics over all rows, by short name."""
    metrics = _metric_module(wanted, len(labels))
    for start in range(0, len(labels), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        metrics.update(
            {
                "prediction": torch.from_numpy(predictions[chunk]).double(),
                "label": torch.from_numpy(labels[chunk]).double(),
                "weight": torch.ones(len(labels[chunk]), dtype=torch.float64),
            }
        )
    values = metrics.local_compute()  # this rank has all rows: no exchange
    return {
        name.rpartition("lifetime_")[2]: float(value)
        for name, value in values.resolve().items()
        if "lifetime_" in name
    }


def _metric_module(wanted: list[RecMetricEnum], num_rows: int) -> RecMetricModule:
    config = MetricsConfig(
        rec_tasks=[DefaultTaskInfo],
        rec_metrics={
            metric: RecMetricDef(
                rec_tasks=[DefaultTaskInfo],
                window_size=max(num_rows, 1),
                arguments={"include_logloss": True} if metric is RecMetricEnum.NE else {},
            )
            for metric in wanted
        },
        throughput_metric=None,
        state_metrics=[],
    )
    return generate_metric_module(
        RecMetricModule,
        metrics_config=config,
        batch_size=min(CHUNK_ROWS, max(num_rows, 1)),
        world_size=1,
        my_rank=0,
        state_metrics_mapping={},
        device=torch.device("cpu"),
    )
