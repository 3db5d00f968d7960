"""``mixdim bench loader``: examples per second out of Parquet parts into feature batches."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models.sizing import Uniform
from service.bench.harness import Contender, Figures, OnRun, Report, race, silent
from service.bench.options import LoaderConfig
from service.data.dataset import DatasetInfo, read_dataset_info
from service.data.loader import Loader

HEADLINE: Final = "examples_per_second"


def run(config: LoaderConfig, on_run: OnRun = silent) -> Report:
    """Race the loader, in order and shuffled, against Arrow alone.

    Raises:
        FileNotFoundError: If there is no dataset.
    """
    info = read_dataset_info(config.data)
    contenders = [
        Contender(name=name, about=about, run=partial(_run, config, info, epoch), is_bound=is_bound)
        for name, about, epoch, is_bound in (
            ("loader", "batches of features, order of the parts", _in_order, False),
            ("loader-shuffled", "the same, order of an epoch", _shuffled, False),
            ("row-groups", "pyarrow's row groups, nothing made of them", _row_groups, True),
        )
    ]
    return race(
        contenders,
        config.race,
        on_run,
        benchmark="loader",
        headline=HEADLINE,
        options=asdict(config) | {"data": config.data.name},
    )


Epoch = Callable[[LoaderConfig, DatasetInfo], Iterable[int]]
"""Reads the training split once; yields the number of examples of every batch."""


def _run(config: LoaderConfig, info: DatasetInfo, epoch: Epoch, _repetition: int) -> Figures:
    torch.set_num_threads(config.threads)
    pa.set_cpu_count(config.threads)
    sum(epoch(config, info))
    num_examples = num_batches = 0
    start = time.perf_counter()
    while (seconds := time.perf_counter() - start) < config.min_seconds:
        for size in epoch(config, info):
            num_examples += size
            num_batches += 1
    return {HEADLINE: num_examples / seconds, "batches_per_second": num_batches / seconds}


def _in_order(config: LoaderConfig, info: DatasetInfo) -> Iterable[int]:
    return _batch_sizes(config, info, None)


def _shuffled(config: LoaderConfig, info: DatasetInfo) -> Iterable[int]:
    return _batch_sizes(config, info, 0)


def _batch_sizes(config: LoaderConfig, info: DatasetInfo, seed: int | None) -> Iterable[int]:
    plan = Uniform(dim=config.dim)(info.field_stats)
    loader = Loader(config.data, info, "train", plan, batch_size=config.batch_size, seed=seed)
    return (batch.features.stride() for batch in loader.batches())


def _row_groups(config: LoaderConfig, info: DatasetInfo) -> Iterable[int]:
    for part in info.splits["train"].parts:
        with pq.ParquetFile(config.data / part.path, memory_map=True) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group).num_rows
