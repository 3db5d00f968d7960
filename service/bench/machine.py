"""What a figure was measured on, and how busy others kept the machine meanwhile."""

import os
import platform
import resource
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "pyarrow", "numpy")
FLAGS: Final = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16")
"""Instruction sets that decide how fast a matrix product can be."""


def describe_machine() -> dict[str, Any]:
    """Processor, memory, system and versions of what computes."""
    cpu = _cpu_info()
    flags = cpu.get("flags", "").split()
    return {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "cpu_family": cpu.get("cpu family"),
        "cpu_model": cpu.get("model"),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """CPU time up to a moment; the difference of two moments is what happened between them."""

    seconds: float
    """Wall clock."""
    busy_seconds: float
    """All processes of the machine, where the system tells."""
    own_seconds: float
    """This process and its finished children."""
    stolen_seconds: float
    """Taken by the hypervisor."""

    @classmethod
    def now(cls) -> "Load":
        """Read the clocks."""
        busy, stolen = _machine_seconds()
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        usages = [resource.getrusage(which) for which in who]
        return cls(
            seconds=time.perf_counter(),
            busy_seconds=busy,
            own_seconds=sum(usage.ru_utime + usage.ru_stime for usage in usages),
            stolen_seconds=stolen,
        )

    def foreign_ratio_since(self, before: "Load") -> float:
        """Share of all cores that others used, the hypervisor included; 0 where unknown."""
        busy = self.busy_seconds - before.busy_seconds + self.stolen_seconds - before.stolen_seconds
        foreign = busy - (self.own_seconds - before.own_seconds)
        available = (self.seconds - before.seconds) * (os.cpu_count() or 1)
        return min(max(foreign / available, 0.0), 1.0) if busy else 0.0


def wait_until_quiet(*, max_ratio: float, timeout_seconds: float) -> None:
    """Wait until others leave the machine alone for a second, or until the time is up."""
    deadline = time.perf_counter() + timeout_seconds
    while time.perf_counter() < deadline:
        before = Load.now()
        time.sleep(1.0)
        if Load.now().foreign_ratio_since(before) <= max_ratio:
            return


def _machine_seconds() -> tuple[float, float]:
    """Busy and stolen CPU seconds since boot; zeros where there is no ``/proc/stat``."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0, 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal, *_ = map(
        int, path.read_text().splitlines()[0].split()[1:]
    )
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, steal / ticks


def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    first = path.read_text().partition("\n\n")[0] if path.exists() else ""
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
