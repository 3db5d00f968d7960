"""Where in the data a run stands: a number of batches, and what decides which examples they are."""

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
