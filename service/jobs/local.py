"""Jobs as processes of this machine, each kept by a process of its own: see `service.jobs.keeper`.

What is known of a job lies in its folder, so that any process can ask, and a service that was
killed finds its jobs again.
"""

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from service.job import JobError
from service.jobs import keeper
from service.jobs.launcher import Job, JobState, JobStatus
from service.jobs.log_file import lines_of

GRACE_SECONDS: Final = 60.0
"""What a cancelled job gets to write its checkpoint."""
LOG_BYTES: Final = 256 << 20
"""What a job's log may grow to."""
KEY: Final = r"[a-z0-9][a-z0-9-]{0,63}"
NPROC_VERBS: Final = frozenset({"train", "evaluate", "search"})
"""Verbs that start ranks of their own."""
SECRETS: Final = "MIXDIM_"
"""Environment variables that begin so are the service's own, and no job's."""

Command = Callable[[Job], Sequence[str]]


def verb_command(job: Job) -> list[str]:
    """What runs a job on this machine."""
    nproc = ["--nproc", str(job.ranks_per_node)]
    has_ranks = job.ranks_per_node > 1 and job.verb in NPROC_VERBS
    return [sys.executable, "-P", "-m", "service", *job.words, *(nproc * has_ranks)]


class LocalLauncher:
    """Runs jobs on this machine; a job's handle is its key.

    Args:
        folder: Gets a folder for each job.
        command: What runs a job.
        grace_seconds: Time between SIGTERM and SIGKILL of a cancelled job.
        log_bytes: What a job's log may grow to; of what is beyond it only the end is kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        command: Command = verb_command,
        grace_seconds: float = GRACE_SECONDS,
        log_bytes: int = LOG_BYTES,
    ) -> None:
        self._folder = folder.resolve()
        self._command = command
        self._grace_seconds = grace_seconds
        self._log_bytes = log_bytes

    def submit(self, key: str, job: Job) -> str:
        """Start a job, once: a second call with the same key finds the first call's job.

        Raises:
            ValueError: If it asks for more than this machine.
            JobError: If no process can be started.
        """
        if job.nodes > 1:
            raise ValueError(f"nodes={job.nodes} on one machine, expected 1; name a scheduler")
        folder = self._folder_of(key)
        if (folder / keeper.STARTED_FILE).exists():
            return key
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keeper.write_json(folder / keeper.JOB_FILE, self._description(job))
        begin = [sys.executable, "-I", "-S", keeper.__file__, str(folder)]
        done = subprocess.run(
            begin, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
        )
        if done.returncode:
            last, *_ = done.stderr.splitlines()[-1:] or ["it said nothing"]
            raise JobError(f"job {key}: its keeper did not start: {last}; look into {folder}")
        return key

    def describe(self, key: str, job: Job) -> str:
        """The command line of the job's process."""
        self._folder_of(key)
        return shlex.join(self._command(job))

    def find(self, key: str) -> str | None:
        """The key itself, if a job was submitted with it."""
        return key if (self._folder_of(key) / keeper.JOB_FILE).exists() else None

    def status(self, handle: str) -> JobStatus:
        """Where a job stands, by what lies in its folder and by who holds its lock."""
        folder = self._folder_of(handle)
        if not (folder / keeper.JOB_FILE).exists():
            return JobStatus(JobState.MISSING)
        if not (folder / keeper.STARTED_FILE).exists():
            is_cancelled = (folder / keeper.CANCEL_FILE).exists()
            return JobStatus(JobState.CANCELLED if is_cancelled else JobState.PENDING)
        is_kept = _is_kept(folder)  # before the look at how it ended
        if (folder / keeper.EXIT_FILE).exists():
            return _ended(folder / keeper.EXIT_FILE)
        if is_kept:
            return JobStatus(JobState.RUNNING, hosts=("127.0.0.1",))
        keeper.end_processes(folder)
        return JobStatus(
            JobState.FAILED,
            message="lost: its keeper was killed, or the machine was started again",
        )

    def logs(self, handle: str, *, follow: bool = False, offset: int = 0) -> Iterator[str]:
        """Lines of a job's output; one that is still being written is not among them."""
        return lines_of(
            self._folder_of(handle) / keeper.LOG_FILE,
            lambda: self.status(handle).state.is_final,
            follow=follow,
            offset=offset,
        )

    def cancel(self, handle: str) -> None:
        """Have the keeper end a job; one that has not begun never will."""
        folder = self._folder_of(handle)
        if not folder.is_dir():
            return
        (folder / keeper.CANCEL_FILE).touch()
        with suppress(OSError, ValueError):  # it has ended, or has not begun and will see the file
            started = json.loads((folder / keeper.STARTED_FILE).read_text())
            _tell(started["pid"], started["started"])

    def _folder_of(self, key: str) -> Path:
        if not re.fullmatch(KEY, key):
            raise ValueError(f"job {key!r}, expected lower-case letters, digits and dashes")
        return self._folder / key

    def _description(self, job: Job) -> dict[str, Any]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
        return {
            "command": list(self._command(job)),
            "environment": {**ours, "PYTHONUNBUFFERED": "1", **job.environment},
            "cwd": str(Path.cwd()),
            "max_retries": job.max_retries,
            "grace_seconds": self._grace_seconds,
            "log_bytes": self._log_bytes,
        }


def _ended(path: Path) -> JobStatus:
    try:
        record = json.loads(path.read_text())
    except ValueError:  # a file system that does not keep its promises
        return JobStatus(JobState.FAILED, message=f"lost: {path} cannot be read")
    exit_code = record["exit_code"]
    if record["cancelled"]:
        return JobStatus(JobState.CANCELLED, exit_code=exit_code)
    if exit_code == 0:
        return JobStatus(JobState.SUCCEEDED, exit_code=0)
    return JobStatus(JobState.FAILED, exit_code, f"exit code {exit_code}")


def _is_kept(folder: Path) -> bool:
    with (folder / keeper.LOCK_FILE).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _tell(pid: int, started: str) -> None:
    """Send SIGTERM to a process, unless its pid is another one's by now."""
    process = os.pidfd_open(pid)
    try:
        if keeper.start_time(pid) == started:
            signal.pidfd_send_signal(process, signal.SIGTERM)
    finally:
        os.close(process)
