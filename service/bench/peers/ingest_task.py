"""What every contender of ``mixdim bench ingest`` is given; needs the standard library alone.

The work: read lines of Criteo's form; write the label, the 13 numbers as ``log1p(max(x, 0))`` with
-1 where they are missing, and an id for each of the 26 values to ``rows.parquet``; write every
field's values with their counts to ``C*.parquet``. Ids are ranks by count, then by value, of the
values that occur often enough; behind them come one id for missing and one for rare values.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.bench.peers.answer import answer, cpu_seconds, peak_rss_bytes

LABEL: Final = "label"
DENSE: Final = tuple(f"I{number}" for number in range(1, 14))
FIELDS: Final = tuple(f"C{number}" for number in range(1, 27))
ROWS_FILE: Final = "rows.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestTask:
    """Text to be made into ids."""

    raw: Path
    output: Path
    """Folder that is there, and empty."""
    min_count: int
    """Lookups that a value needs to get an id of its own."""
    threads: int


def take_part(work: Callable[[IngestTask], None], packages: Sequence[str]) -> None:
    """Do the work that the arguments name; print figures as JSON."""
    parser = argparse.ArgumentParser()
    for name in ("raw", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("min-count", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    task = IngestTask(**vars(parser.parse_args(sys.argv[1:])))
    start = time.perf_counter()
    work(task)
    figures = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": cpu_seconds(),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    answer(figures, packages)
