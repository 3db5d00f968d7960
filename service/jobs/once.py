"""Submitting a job once, whoever else is about to, and whenever the one who did was killed."""

import fcntl
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final
from zlib import crc32

from service.run_folder import DRAFT

HANDLE_FILE: Final = "handle"
LOCK_FILE: Final = "submitting"
KEY: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
PORTS: Final = range(20_000, 30_000)


def folder_of(folder: Path, key: str) -> Path:
    """Where the files of a job are.

    Raises:
        ValueError: If the key cannot be a name.
    """
    if not re.fullmatch(KEY, key):
        raise ValueError(
            f"job {key!r}, expected at most 63 lower-case letters, digits and dashes in between; "
            f"mixdim jobs list shows the names of jobs"
        )
    return folder / key


def known_handle(folder: Path) -> str | None:
    """Handle that a job's folder keeps, if it was submitted from here."""
    path = folder / HANDLE_FILE
    return path.read_text() if path.is_file() else None


def once(folder: Path, find: Callable[[], str | None], start: Callable[[int], str]) -> str:
    """Find a job, or start it, and keep its handle in its folder.

    Args:
        folder: The job's own.
        find: Asks the scheduler, for who was here before may have been killed before it could
            write down what the scheduler had told.
        start: Submits it and returns its handle. It is given the lock's file descriptor: a command
            that inherits it keeps others waiting, also when it outlives this process.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        handle = known_handle(folder) or find() or start(lock.fileno())
        draft = folder / f".{HANDLE_FILE}{DRAFT}"
        draft.write_text(handle)
        draft.rename(folder / HANDLE_FILE)
        return handle


def rendezvous_port(key: str) -> int:
    """A port of the first machine that jobs beside each other rarely share."""
    return PORTS[crc32(key.encode()) % len(PORTS)]
