"""Going on behind a batch whose loss is not a number: where, and what to say of its examples."""

from dataclasses import replace
from typing import Final

import torch

from service.checkpoint import Progress
from service.data.dataset import DatasetInfo
from service.data.loader import Loader
from service.distributed import Ranks
from service.train.finite import NotANumber
from service.train.rates import SKIPPED

MAX_SKIPS: Final = 3
"""Batches of a run that are passed over; then it stops, for they are no exceptions."""


def behind(bad: NotANumber, progress: Progress, loader: Loader) -> Progress:
    """Where to go on: behind the batch of the first step to blame, with lower rates."""
    batch = progress.batch - bad.steps_since
    read_again = sum(loader.size_of_batch(later) for later in range(batch, progress.batch))
    return replace(
        progress,
        step=progress.step - bad.steps_since,
        batch=batch,
        num_examples=progress.num_examples - read_again,
        num_skipped=progress.num_skipped + 1,
        lr_ratio=progress.lr_ratio * SKIPPED,
    )


def examples_of(progress: Progress, loader: Loader, info: DatasetInfo, ranks: Ranks) -> str:
    """Which examples the last batch before a position has, and what is largest in them.

    The whole batch is read again, by all ranks alike.
    """
    number = (progress.batch or len(loader)) - 1
    epoch = progress.epoch - (progress.batch == 0)
    own = next(loader.batches(epoch, first_batch=number)).dense.abs().amax(dim=0)
    largest = torch.stack(ranks.gather(own)).amax(dim=0)  # by column
    first = number * loader.global_batch_size
    said = f"examples {first:,} to {first + loader.size_of_batch(number) - 1:,} of epoch {epoch}"
    if not len(largest):
        return said
    name = info.dense_names[int(largest.argmax())]
    return f"{said}, whose largest dense value is {float(largest.max()):g} of {name}"
