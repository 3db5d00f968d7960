"""The splitter that the options ask for, with the look at the data that it needs."""

import logging

import numpy as np
from numpy.typing import NDArray

from service.data.ingest.options import PrepareConfig, Progress, Report
from service.data.ingest.ordered import map_in_order
from service.data.ingest.splits import OrderSplit, RandomSplit, Splitter, TimeSplit
from service.data.readers.base import Block, Dataset

logger = logging.getLogger(__name__)

TIED_RATIO = 0.05
"""A warning is due where one time is shared by more rows than this."""


def choose_splitter(dataset: Dataset, config: PrepareConfig, report: Report) -> Splitter:
    """Return the rule; ``order`` and ``time`` read the data once for it.

    Raises:
        ValueError: If the data has no time, or its times cannot be split.
    """
    if config.split == "random":
        return RandomSplit(fractions=config.fractions, seed=config.seed)
    if config.split == "order":
        num_lines = 0
        for block in dataset.blocks():
            num_lines += block.num_lines
            _report(report, "before: count lines", num_lines, block, dataset)
        return OrderSplit(fractions=config.fractions, num_lines=num_lines)
    if dataset.layout.time_column is None:
        raise ValueError(
            f"--split time: the {config.source.name} data has no time column; use random or order"
        )
    times, counts = _count_times(dataset, config, report)
    if len(times) == 0:
        raise ValueError("the input has no rows to split by time; expected at least one")
    _warn_of_ties(times, counts, dataset.layout.time_column)
    return TimeSplit.at_quantiles(times, counts, config.fractions)


def _count_times(
    dataset: Dataset, config: PrepareConfig, report: Report
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct times, ascending, and the accepted rows of each."""

    def count(block: Block) -> tuple[Block, NDArray[np.int64], NDArray[np.int64]]:
        time = dataset.parse(block).time
        assert time is not None, "a layout with a time column gives rows with a time"
        return (block, *np.unique(time, return_counts=True))

    times, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for block, block_times, block_counts in map_in_order(
        count, dataset.blocks(), config.num_threads
    ):
        together = np.concatenate([times, block_times])
        times, place = np.unique(together, return_inverse=True)
        counts = np.bincount(
            place, np.concatenate([counts, block_counts]), minlength=len(times)
        ).astype(np.int64)
        _report(report, "before: read times", int(counts.sum()), block, dataset)
    return times, counts


def _warn_of_ties(times: NDArray[np.int64], counts: NDArray[np.int64], column: str) -> None:
    most = int(counts.argmax())
    ratio = counts[most] / counts.sum()
    if ratio > TIED_RATIO:
        logger.warning(
            "warning: %.0f%% of the rows share %s %d; a split by time keeps them on one side",
            100 * ratio,
            column,
            times[most],
        )


def _report(report: Report, name: str, num_rows: int, block: Block, dataset: Dataset) -> None:
    report(
        Progress(
            name=name,
            num_rows=num_rows,
            bytes_read=block.bytes_read,
            num_bytes=dataset.num_bytes,
        )
    )
