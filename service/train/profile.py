"""``mixdim train --profile STEPS``: where the time of some steps goes, by torch's profiler."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile, schedule

logger = logging.getLogger(__name__)

TRACE_FILE: Final = "profile.json"
"""Every call, for chrome://tracing or Perfetto."""
TABLE_FILE: Final = "profile.txt"
"""The costliest operators."""
SKIPPED_STEPS: Final = 10
"""Steps before the profile, in which threads, buffers and the heap find their size."""
MAX_ROWS: Final = 15


@contextmanager
def profiled(folder: Path, num_steps: int) -> Iterator[Callable[[], None]]:
    """Record ``num_steps`` steps after the first ones; gives what to call after each step.

    Args:
        folder: Gets ``profile.json`` and ``profile.txt``; of a run that ends before the profile
            is full, with the steps that there were.
        num_steps: Steps to record; 0 for none.
    """
    if not num_steps:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] * torch.cuda.is_available()
    plan = schedule(wait=SKIPPED_STEPS - 1, warmup=1, active=num_steps, repeat=1)

    def write(profiler: profile) -> None:
        profiler.export_chrome_trace(str(folder / TRACE_FILE))
        table = _table(profiler)
        (folder / TABLE_FILE).write_text(table)
        logger.info("profile of %d steps in %s\n%s", num_steps, folder / TRACE_FILE, table)

    with profile(activities=activities, schedule=plan, on_trace_ready=write) as profiler:
        yield profiler.step


def _table(profiler: Any) -> str:
    order = f"self_{'cuda' if torch.cuda.is_available() else 'cpu'}_time_total"
    table: str = profiler.key_averages().table(
        sort_by=order, row_limit=MAX_ROWS, max_name_column_width=60
    )
    return table
