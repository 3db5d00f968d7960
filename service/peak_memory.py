"""The most memory that this process holds, counted from a moment of one's choosing."""

import contextlib
from pathlib import Path

from service.allocator import return_freed_memory


class PeakMemory:
    """The most memory that this process holds from now on, what it keeps freed left out.

    None everywhere where the system does not say.
    """

    def __init__(self) -> None:
        return_freed_memory()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        self._before = _status_bytes("VmRSS")

    @property
    def total_bytes(self) -> int | None:
        """With torch and its libraries, and whatever there was before."""
        return _status_bytes("VmHWM")

    @property
    def own_bytes(self) -> int | None:
        """Above what there was before: what the work in between needs."""
        total = self.total_bytes
        return total - self._before if total is not None and self._before is not None else None


def _status_bytes(name: str) -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(
        (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name)),
        None,
    )
