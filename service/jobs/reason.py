"""Why a job failed: what its verb gave as the reason, or else what it said last."""

import re
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.jobs.launcher import JobStatus

LAST_LINES: Final = 200
"""Lines from the end of a log among which the reason is looked for."""
MAX_CHARACTERS: Final = 500
SIGNALLED: Final = 128
"""Exit codes beyond it are those of signals: what was ended by one gave no reason itself."""

_ERROR = re.compile(r"mixdim [a-z-]+: error: \S.*")
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)")


def explained(
    status: JobStatus, read_log: Callable[[], Iterable[str]], hidden: Path | None = None
) -> str:
    """What there is to say of a job that has failed, in one line.

    Args:
        status: How it ended, as its launcher knows it.
        read_log: Lines of its log; what cannot be read explains nothing.
        hidden: Folder that readers need not know; what lies in it is named from there on.
    """
    last: deque[str] = deque(maxlen=LAST_LINES)
    with suppress(Exception):  # libraries of schedulers raise what they like
        last.extend(read_log())
    lines = [legible(line, hidden) for line in last]
    errors = [found[0] for line in lines if (found := _ERROR.search(line))]
    said = [line for line in lines if any(map(str.isalnum, line))]
    if errors and (status.exit_code or 0) <= SIGNALLED:
        parts = [status.message, errors[-1]]
    else:
        parts = [status.message, *(f"it said last: {line}" for line in said[-1:])]
    return shortened(": ".join(filter(None, parts)))


def legible(line: str, hidden: Path | None) -> str:
    """A line as a person sees it on a terminal, whatever bytes it is made of.

    Args:
        line: As a log has it.
        hidden: Folder that readers need not know.
    """
    text = _ESCAPE.sub("", line.rstrip("\r").rpartition("\r")[2])
    if hidden is not None:
        text = text.replace(f"{hidden}/", "").replace(str(hidden), "HOME")
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()


def shortened(text: str) -> str:
    """As much of a text as records keep."""
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
