"""The seam of launchers: what a job is, and what whoever starts jobs must be able to do.

A job is one verb of the command line with its arguments, so that a person can always run it by
hand. Launchers: `service.jobs.local` (processes of this machine), `service.jobs.torchx` (TorchX'
schedulers). Nothing here needs torch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from deploy.job import Job as Job
from service.job import JobError


class AwayError(JobError):
    """A scheduler does not answer: nothing is known of its jobs, and all may be asked again."""


class JobState(StrEnum):
    """Where a job stands, as its launcher sees it."""

    PENDING = "pending"
    """Accepted, waiting for its machines."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    MISSING = "missing"
    """The launcher knows no such job."""

    @property
    def is_final(self) -> bool:
        """Whether the job will never change its state again."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.MISSING)


@dataclass(frozen=True)
class JobStatus:
    """What a launcher knows of a job.

    Attributes:
        state: Where it stands.
        exit_code: What its command ended with, where that is known.
        message: One line for people: why it failed, what it waits for.
        hosts: Machines that its ranks run on, rank 0's first, where that is known.
    """

    state: JobState
    exit_code: int | None = None
    message: str = ""
    hosts: tuple[str, ...] = ()


class Launcher(Protocol):
    """Starts, watches and ends jobs, which go on when the process that started them dies."""

    def submit(self, key: str, job: Job) -> str:
        """Start a job, once: a second call with the same key finds the first call's job.

        Args:
            key: Identifies the job for ever: lower-case letters, digits and dashes.
            job: What to run.

        Returns:
            The handle by which the launcher knows the job, also in another process.

        Raises:
            ValueError: If the job asks for what cannot be.
            JobError: If the scheduler does not take it.
            AwayError: If it does not answer: it may have taken it, so call this again.
        """
        ...

    def describe(self, key: str, job: Job) -> str:
        """What `submit` would hand over: a command line, a script, a request."""
        ...

    def find(self, key: str) -> str | None:
        """Handle of the job that was submitted with a key; None if there is none."""
        ...

    def status(self, handle: str) -> JobStatus:
        """Where a job stands.

        Raises:
            AwayError: If the scheduler does not answer.
        """
        ...

    def logs(self, handle: str, *, follow: bool = False, offset: int = 0) -> Iterator[str]:
        """Lines of a job's output so far; with `follow`, also those to come, until it ends.

        A line that is still being written is not among them. Bytes that are no UTF-8 come as
        Python's ``surrogateescape`` has them.

        Args:
            handle: Of the job.
            follow: Wait for more.
            offset: Bytes of UTF-8 to pass over, the ends of lines among them; see `lines_after`.
        """
        ...

    def cancel(self, handle: str) -> None:
        """End a job: SIGTERM, a grace time for its checkpoint, SIGKILL. Ended ones stay."""
        ...


def lines_after(lines: Iterable[str], offset: int) -> Iterator[str]:
    """Lines that begin behind so many bytes, for launchers that cannot seek."""
    position = 0
    for line in lines:
        if position >= offset:
            yield line
        position += len(line.encode(errors="surrogateescape")) + 1
