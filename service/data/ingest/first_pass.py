"""The first pass: check and parse every line, count the values of the training split."""

import logging
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.data.ingest.counting import Counters, count_codes
from service.data.ingest.options import PrepareConfig, Progress, Report, parse_bytes
from service.data.ingest.ordered import map_in_order
from service.data.ingest.rejects import RejectLog
from service.data.ingest.scratch import ParsedRows, Scratch
from service.data.ingest.splits import Splitter
from service.data.readers.base import Block, Dataset, Layout, Rows, Strings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What the first pass has found out."""

    layout: Layout
    counters: Counters
    parsed: Scratch
    """The accepted rows."""
    num_train_rows: int
    num_rejects: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockCounts:
    """The training values of one block, and all its rows for the second pass."""

    rows: Rows
    packed: bytes
    train_labels: NDArray[np.float32]
    fields: dict[str, tuple[Strings, NDArray[np.int64], int]]


def count_values(
    dataset: Dataset, config: PrepareConfig, splitter: Splitter, folder: Path, report: Report
) -> Counted:
    """Read everything once.

    Raises:
        ValueError: If there are no lines, too many malformed ones, no training rows, or one label.
    """
    counters = Counters(
        dataset.layout.fields,
        memory_bytes=parse_bytes(config.memory),
        folder=folder / "runs",
    )
    labels = LabelRange()
    with (
        closing(Scratch(folder / "parsed")) as parsed,
        closing(RejectLog(folder, config.max_reject_ratio, dataset.num_bytes)) as rejects,
    ):
        count = partial(_count_block, dataset, splitter)
        for counts in map_in_order(count, dataset.blocks(), config.num_threads):
            rejects.add(counts.rows)
            labels.add(counts.train_labels)
            parsed.add(counts.packed)
            for name, counted in counts.fields.items():
                counters.add(name, *counted)
            counters.keep_limit()
            report(_progress(rejects, counts.rows.block, dataset))
        if rejects.num_lines == 0:
            raise ValueError("the input has no data lines; expected at least one")
        rejects.finish()
    if runs := counters.num_spills:
        logger.info("counts passed --memory %s: %d runs on disk", config.memory, runs)
    labels.check(rejects.num_lines - rejects.num_rejects)
    return Counted(
        layout=dataset.layout,
        counters=counters,
        parsed=parsed,
        num_train_rows=labels.num_rows,
        num_rejects=rejects.num_rejects,
    )


def _progress(rejects: RejectLog, block: Block, dataset: Dataset) -> Progress:
    return Progress(
        name="pass 1/2: count",
        num_rows=rejects.num_lines - rejects.num_rejects,
        bytes_read=block.bytes_read,
        num_bytes=dataset.num_bytes,
    )


def _count_block(dataset: Dataset, splitter: Splitter, block: Block) -> BlockCounts:
    rows = dataset.parse(block)
    parsed = ParsedRows.of(rows, splitter(rows))
    num_train = parsed.sizes[0]
    return BlockCounts(
        rows=rows,
        packed=parsed.packed(),
        train_labels=parsed.label[:num_train],
        fields={name: count_codes(column, num_train) for name, column in parsed.fields.items()},
    )


@dataclass(slots=True)
class LabelRange:
    """Smallest and largest training label."""

    num_rows: int = 0
    low: float = np.inf
    high: float = -np.inf

    def add(self, labels: NDArray[np.float32]) -> None:
        """Add the training labels of a block."""
        if len(labels):
            self.num_rows += len(labels)
            self.low = min(self.low, float(labels.min()))
            self.high = max(self.high, float(labels.max()))

    def check(self, num_rows: int) -> None:
        """Refuse data that nothing can be learned from.

        Raises:
            ValueError: If there are no training rows, or all have the same label.
        """
        if self.num_rows == 0:
            raise ValueError(
                f"none of the {num_rows:,} rows are in the training split; give more rows or "
                f"raise the first of --fractions"
            )
        if self.low == self.high:
            raise ValueError(
                f"all {self.num_rows:,} training rows have label {self.low:g}, expected different "
                f"ones; check the label column"
            )
