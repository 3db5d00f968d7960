"""Options of ``prepare`` that hold for every source."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from service.data.ingest.splits import SplitRule, check_fractions
from service.data.readers.sources import Source

UNITS: Final = MappingProxyType({"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30})


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """Turn raw logs into a dataset folder."""

    source: Source
    """The form of the raw logs."""

    output: Path = Path("data")
    """Folder to make; it appears when everything in it is complete."""

    min_count: int = 2
    """Training lookups that a value needs to get an id of its own; rarer ones share one id."""

    split: SplitRule = "random"
    """``random`` by seed, by ``order`` (the last lines are the test split), or by ``time``."""

    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, validation and test."""

    seed: int = 0
    """Seed of the random split, and of data that is made up."""

    max_reject_ratio: float = 0.001
    """Share of malformed lines, in [0, 1], above which the job stops."""

    memory: str = "1GiB"
    """Memory for counting values, such as 512MiB; counts beyond it go to disk."""

    overwrite: bool = False
    """Replace the dataset that ``output`` already holds."""

    threads: int = 0
    """Threads that parse; 0 for one a core. The result does not depend on it."""

    block_bytes: int = 8 << 20
    """Text that is parsed at a time, in bytes. The result does not depend on it."""

    def __post_init__(self) -> None:
        check_fractions(self.fractions)
        parse_bytes(self.memory)
        if self.min_count < 1:
            raise ValueError(f"min_count={self.min_count}, expected at least 1 (keep every value)")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed={self.seed}, expected 0 or more, of 63 bits; try 0")
        if not 0 <= self.max_reject_ratio <= 1:
            raise ValueError(f"max_reject_ratio={self.max_reject_ratio}, expected 0 to 1")
        if self.threads < 0 or self.block_bytes < 1:
            raise ValueError(
                f"threads={self.threads}, block_bytes={self.block_bytes}; expected threads of at "
                f"least 0 and blocks of at least 1 byte"
            )

    @property
    def num_threads(self) -> int:
        """Threads that parse."""
        return self.threads or len(os.sched_getaffinity(0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a pass has come."""

    name: str
    """What the pass does, such as ``pass 1/2: count``."""
    num_rows: int
    bytes_read: int
    num_bytes: int
    """Bytes to read in this pass."""


Report = Callable[[Progress], None]


def parse_bytes(text: str) -> int:
    """Read an amount of memory such as ``512MiB``.

    Raises:
        ValueError: If the text is no such amount.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]iB)?", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"memory={text!r}, expected an amount such as 512MiB or 2GiB")
    return int(float(match[1]) * UNITS[match[2] or ""])
