"""Trainings over batches whose loss is not a number; importable by spawned processes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.networks import DCNv2Network
from service.checkpoint import StoredTensors, read_progress
from service.checkpoint.manifest import digest, write_manifest
from service.checkpoint.progress import write_progress
from service.config import TrainConfig
from service.data.dataset import read_dataset_info, write_dataset_info
from service.distributed import joined_ranks
from service.train.loop import train
from service.train.result import TrainResult
from tests.datasets import write_part
from tests.service.train.runs import make_run

GLOBAL_BATCH: Final = 128
STEPS: Final = 24
EVERY: Final = 8
"""Steps between checkpoints."""


def make_spoilt_run(folder: Path, batches: Sequence[int], **changes: object) -> TrainConfig:
    """A run whose training split holds, in these batches, a number whose square is none.

    It is a finite one, for those that are not are refused by the loader, and in the batch's last
    row: of two ranks the second has it.
    """
    network = DCNv2Network(hidden=(16,))  # multiplies the dense columns
    settings = {"network": network, "shuffle": False, "max_steps": STEPS, "on_nan": "skip"}
    kept = {"checkpoint_every": EVERY, "keep_checkpoints": 9}
    config = make_run(folder, **(settings | kept | changes))
    info = read_dataset_info(config.data)
    rows = [(batch + 1) * GLOBAL_BATCH - 1 for batch in batches]
    first = 0
    parts = []
    for part in info.splits["train"].parts:
        table = pq.read_table(config.data / part.path)
        values = table["I2"].to_numpy().copy()
        own = [row - first for row in rows if 0 <= row - first < len(table)]
        values[own] = np.finfo(np.float32).max
        place = table.schema.get_field_index("I2")
        table = table.set_column(place, table.schema.field("I2"), pa.array(values))
        first += len(table)
        parts.append(write_part(config.data, part.path, table, row_group=64))
    spoilt = replace(info.splits["train"], parts=tuple(parts))
    write_dataset_info(replace(info, splits={**info.splits, "train": spoilt}), config.data)
    return config


def train_on(configs: Sequence[TrainConfig]) -> list[TrainResult]:
    """One after the other, on the ranks that this process is one of."""
    with joined_ranks("cpu"):
        return [train(config) for config in configs]


def move_by_hand(checkpoint: Path, **changes: object) -> None:
    """Say of a checkpoint that it is of another place."""
    moved = replace(read_progress(checkpoint), **changes)
    target = checkpoint.with_name(f"step-{moved.step:08d}")
    checkpoint.rename(target)
    write_progress(moved, target)
    names = [path.name for path in target.iterdir() if path.name != "manifest.json"]
    write_manifest(target, {name: digest(target / name) for name in names})


def stored(checkpoint: Path) -> dict[str, npt.NDArray[np.float32]]:
    """All tensors of a checkpoint but the random generators."""
    tensors = StoredTensors(checkpoint)
    return {name: tensors.read(name) for name in tensors.shapes if not name.startswith("random.")}


def checkpoint_of(config: TrainConfig, step: int) -> Path:
    """Of a step."""
    return config.output / "checkpoints" / f"step-{step:08d}"
