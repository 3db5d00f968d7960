"""Where a run stands: a number of batches, which examples they are, and what is due there."""

from pathlib import Path
from typing import Any

from service.checkpoint import Progress
from service.config import TrainConfig
from service.data.dataset import DatasetInfo


def order_of(config: TrainConfig, info: DatasetInfo, *, world_size: int) -> dict[str, Any]:
    """What decides which examples a batch number means."""
    return {
        "seed": config.seed,
        "shuffle": config.shuffle,
        "global_batch_size": config.batch_size * world_size,
        "data_sha256": info.content_sha256,
    }


def is_due(step: int, every: int) -> bool:
    """Whether something is due that is done every so many steps; 0 for never."""
    return every > 0 and step % every == 0


def is_validation_owed(progress: Progress, config: TrainConfig) -> bool:
    """Whether a run was stopped, or went back, before it had validated the step it stands at."""
    is_epoch_done = progress.epoch > 0 and progress.batch == 0
    return progress.validated_step < progress.step > 0 and (
        is_epoch_done
        or is_due(progress.step, config.validate_every)
        or progress.step == config.max_steps
    )


def is_done(progress: Progress, config: TrainConfig) -> bool:
    """Whether the epochs or steps are done, or nothing has improved for long enough."""
    return (
        progress.epoch >= config.epochs
        or 0 < config.max_steps <= progress.step
        or progress.num_worse >= config.patience
    )


def check_order(progress: Progress, order: dict[str, Any], checkpoint: Path) -> None:
    """Refuse to go on in the middle of an epoch whose examples are now in another order.

    Raises:
        ValueError: If a resume would skip or repeat examples.
    """
    changed = [name for name, value in order.items() if progress.order.get(name) != value]
    if changed and progress.batch:
        name = changed[0]
        raise ValueError(
            f"{checkpoint} is at batch {progress.batch} of an epoch with "
            f"{name}={progress.order.get(name)}, this job has {order[name]}, which puts the "
            f"examples in another order; resume with the same, or at an epoch's end"
        )
