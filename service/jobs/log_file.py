"""A job's output where it is a file: its lines so far, and those to come."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

FOLLOW_SECONDS: Final = 0.2


def lines_of(
    path: Path, is_final: Callable[[], bool], *, follow: bool, offset: int
) -> Iterator[str]:
    """Lines of a file, which need not exist yet; one that is still being written is not among them.

    Args:
        path: The file.
        is_final: Whether nobody will write to it any more; asked before every look at it.
        follow: Wait for more, until then.
        offset: Bytes to pass over.
    """
    while True:
        is_last_look = is_final()
        for line in _read_from(path, offset):
            if not (line.endswith(b"\n") or is_last_look):
                break
            offset += len(line)
            yield line.removesuffix(b"\n").decode(errors="surrogateescape")
        if is_last_look or not follow:
            return
        time.sleep(FOLLOW_SECONDS)


def _read_from(path: Path, offset: int) -> Iterator[bytes]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(min(offset, path.stat().st_size))  # file systems refuse places far behind the end
        yield from file
