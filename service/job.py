"""The job that this process is part of: its name, how often it was started again, how it ends."""

import os
from typing import Final

EXIT_LOST: Final = 1
"""Exit code of a job whose ranks were killed, or failed without saying of what."""
EXIT_HUNG: Final = 4
"""Exit code of a job that made no progress."""

REFUSALS: Final[tuple[type[Exception], ...]] = (ValueError, ArithmeticError, OSError)
"""Errors that a command turns into one line, whichever rank has raised them."""


class JobError(Exception):
    """A job ended for a reason that lies outside of its input.

    Args:
        message: What happened, and how to go on.
        exit_code: What the process ends with.
    """

    def __init__(self, message: str, *, exit_code: int = EXIT_LOST) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def job_id() -> str | None:
    """What all starts of a job share, and no other job; None outside of an elastic agent."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def num_restarts() -> int:
    """How often the ranks of this job were started again, after one of them was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
