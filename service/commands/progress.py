"""A progress bar on stderr: rows so far, rows a second, time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from service.data.ingest.options import Progress, Report


@contextmanager
def shown_progress() -> Iterator[Report]:
    """Yield a function that shows the state of a pass."""
    columns = (
        TextColumn("{task.description:22}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[rows]:>11,} rows"),
        TextColumn("{task.fields[speed]:>9,.0f} rows/s"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(file=sys.stderr)) as bar:
        tasks: dict[str, TaskID] = {}
        starts: dict[str, float] = {}
        last = time.perf_counter()

        def report(progress: Progress) -> None:
            nonlocal last
            if progress.name not in tasks:
                tasks[progress.name] = bar.add_task(progress.name, rows=0, speed=0.0)
                starts[progress.name] = last  # a pass starts where the one before it ended
            last = time.perf_counter()
            bar.update(
                tasks[progress.name],
                total=progress.num_bytes,
                completed=progress.bytes_read,
                rows=progress.num_rows,
                speed=progress.num_rows / (last - starts[progress.name]),
            )

        yield report
