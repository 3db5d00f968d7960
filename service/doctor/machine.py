"""What the machine has: processors, memory, disks, limits, and the tools of schedulers."""

import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Final

from service.doctor.findings import Finding, State

GIB: Final = 2**30
LEAST_DISK_BYTES: Final = 20 * GIB
"""A checkpoint of a model of a few gigabytes, the one before it, and room to write the next."""
LEAST_SHARED_BYTES: Final = GIB
"""NCCL and gloo exchange between ranks of one machine through it; containers get 64 MiB."""
LEAST_FILES: Final = 4096
SCHEDULERS: Final = (
    (
        "Slurm",
        ("sbatch", "srun", "squeue", "scancel"),
        "install Slurm's client, or log in to a node that has it",
    ),
    (
        "Kubernetes",
        ("kubectl",),
        "install kubectl; pip install 'mixdim[kubernetes]' submits without it",
    ),
    ("Docker", ("docker",), "install Docker's engine, for `--scheduler docker` and compose"),
    ("torchrun", ("torchrun",), "activate .venv; it comes with torch"),
    ("TorchX", ("torchx",), "pip install 'mixdim[submit]'"),
)
"""Programs on the path by scheduler, and how to get them."""


def look_at_machine(folder: Path) -> Iterator[Finding]:
    """Everything but packages.

    Args:
        folder: Where datasets and runs are to be.
    """
    yield _processors()
    yield _memory()
    yield _disk("disk", folder, LEAST_DISK_BYTES, "free some, or name another folder: --folder")
    yield _disk("temporary files", Path(gettempdir()), GIB, "free some, or set TMPDIR")
    yield _shared_memory()
    yield _open_files()
    yield _host_name()
    yield _gpus()
    yield from _schedulers()


def _processors() -> Finding:
    usable, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    set_to = f", OMP_NUM_THREADS={threads}" if threads else ""
    value = f"{usable} of {there} processors{set_to}"
    return Finding(area="machine", name="processors", state="ok", value=value)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _cgroup_limit()
    allowed = f", {limit / GIB:.1f} GiB for this container" if limit and limit < total else ""
    value = f"{total / GIB:.1f} GiB{allowed}"
    return Finding(area="machine", name="memory", state="ok", value=value)


def _cgroup_limit() -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            return int(text)
    return None


def _disk(name: str, folder: Path, least: int, how: str) -> Finding:
    place = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    is_writable = os.access(place, os.W_OK)
    state: State = "ok" if free >= least else "hint"
    state = state if is_writable and free >= least // 20 else "wrong"
    wanted = "" if is_writable else ", not writable"
    return Finding(
        area="machine",
        name=name,
        state=state,
        value=f"{free / GIB:.1f} GiB free in {place}{wanted}",
        advice="" if state == "ok" else f"{how}; {least / GIB:.0f} GiB are comfortable",
    )


def _shared_memory() -> Finding:
    place = Path("/dev/shm")
    total = shutil.disk_usage(place).total if place.is_dir() else 0
    is_fine = total >= LEAST_SHARED_BYTES
    return Finding(
        area="machine",
        name="shared memory",
        state="ok" if is_fine else "hint",
        value=f"{total / GIB:.2f} GiB in {place}",
        advice=""
        if is_fine
        else "ranks of one machine exchange through it: docker run --shm-size 2g, or in Kubernetes "
        "an emptyDir of medium Memory at /dev/shm",
    )


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_fine = soft >= LEAST_FILES or soft == resource.RLIM_INFINITY
    most = "unlimited" if hard == resource.RLIM_INFINITY else hard
    return Finding(
        area="machine",
        name="open files",
        state="ok" if is_fine else "hint",
        value=f"{soft} allowed, {most} at most",
        advice="" if is_fine else f"ulimit -n {LEAST_FILES}, before many ranks or clients",
    )


def _host_name() -> Finding:
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        return Finding(
            area="machine",
            name="host name",
            state="hint",
            value=f"{name} has no address",
            advice="ranks find each other by it: name it in /etc/hosts",
        )
    return Finding(area="machine", name="host name", state="ok", value=f"{name}, {address}")


def _gpus() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        value = "none: there is no nvidia-smi; trainings run on the CPU"
        return Finding(area="machine", name="GPUs", state="ok", value=value)
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess(query, 1, stdout="no answer in 30 s")
    lines = "; ".join(filter(None, map(str.strip, done.stdout.splitlines())))
    advice = "see what `nvidia-smi` says; the driver may not be loaded" if done.returncode else ""
    return Finding(
        area="machine",
        name="GPUs",
        state="hint" if done.returncode else "ok",
        value=lines or "none",
        advice=advice,
    )


def _schedulers() -> Iterator[Finding]:
    for name, programs, how in SCHEDULERS:
        missing = [program for program in programs if shutil.which(program) is None]
        there = shutil.which(programs[0])
        yield Finding(
            area="schedulers",
            name=name,
            state="hint" if missing else "ok",
            value=f"{', '.join(missing)} not on the path" if missing else str(there),
            advice=how if missing else "",
        )
