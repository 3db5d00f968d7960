"""The most memory that this process has held, counted from a moment of one's choosing."""

from pathlib import Path

from service.allocator import return_freed_memory


def forget_peak_memory() -> None:
    """Start a new peak of this process's memory, what it holds freed left out, where one can."""
    return_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_bytes() -> int | None:
    """Most memory that this process has held since `forget_peak_memory`; None where unknown."""
    return _status_bytes("VmHWM")


def memory_bytes() -> int | None:
    """Memory that this process holds; None where unknown."""
    return _status_bytes("VmRSS")


def _status_bytes(name: str) -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(
        (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name)),
        None,
    )
