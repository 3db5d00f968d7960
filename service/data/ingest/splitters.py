"""The splitter that the options ask for, with the look at the data that it needs."""

import logging

import numpy as np
from numpy.typing import NDArray

from service.data.ingest.options import PrepareConfig, Progress, Report
from service.data.ingest.ordered import map_in_order
from service.data.ingest.splits import OrderSplit, RandomSplit, Splitter, TimeSplit
from service.data.readers.base import Block, Dataset, Reject

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
    times, counts, rejected = _count_times(dataset, config, report)
    if len(times) == 0:
        why = ""
        if rejected is not None:
            why = f"; the first: {rejected.path}, line {rejected.line}: {rejected.reason}"
        raise ValueError(
            f"--split time: no row can be split by {dataset.layout.time_column}, whose values are "
            f"to be numbers, such as seconds since 1970{why}"
        )
    _warn_of_ties(times, counts, dataset.layout.time_column)
    return TimeSplit.at_quantiles(times, counts, config.fractions)


def _count_times(
    dataset: Dataset, config: PrepareConfig, report: Report
) -> tuple[NDArray[np.int64], NDArray[np.int64], Reject | None]:
    """Distinct times, ascending, the accepted rows of each, and the first line that is not."""

    def count(
        block: Block,
    ) -> tuple[Block, Reject | None, NDArray[np.int64], NDArray[np.int64]]:
        rows = dataset.parse(block)
        assert rows.time is not None, "a layout with a time column gives rows with a time"
        first = rows.rejects[0] if rows.rejects else None
        return (block, first, *np.unique(rows.time, return_counts=True))

    times, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    rejected: Reject | None = None
    for block, reject, block_times, block_counts in map_in_order(
        count, dataset.blocks(), config.num_threads
    ):
        rejected = rejected or reject
        together = np.concatenate([times, block_times])
        times, place = np.unique(together, return_inverse=True)
        counts = np.bincount(
            place, np.concatenate([counts, block_counts]), minlength=len(times)
        ).astype(np.int64)
        _report(report, "before: read times", int(counts.sum()), block, dataset)
    return times, counts, rejected


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
