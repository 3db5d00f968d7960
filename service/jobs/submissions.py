"""What was submitted from here: the records behind ``mixdim jobs``, one file a job.

HOME/jobs/KEY/submission.json is written before the job is submitted, so that a command that was
killed in between leaves a job that can be found, not one that nobody knows.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from deploy.job import RESUMABLE, Job
from service.first_fault import first_fault
from service.job import JobError
from service.jobs.choice import open_launcher
from service.jobs.launcher import JobState, JobStatus, Launcher
from service.jobs.once import folder_of
from service.jobs.reason import explained
from service.run_folder import DRAFT

SUBMISSION_FILE: Final = "submission.json"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job, and where it was submitted to.

    Attributes:
        key: Names the job for ever.
        scheduler: See `service.jobs.choice`.
        options: The scheduler's own.
        python: Interpreter on the cluster; empty for what is on the path.
        job: What runs.
        submitted_at: Seconds since 1970.
    """

    key: str
    scheduler: str
    job: Job
    options: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    submitted_at: float = 0.0


_ADAPTER: Final = TypeAdapter(Submission)


class Submissions:
    """The jobs of a home folder.

    Args:
        home: Folder whose ``jobs`` has a folder for each job.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "jobs"

    def launcher_of(self, submission: Submission) -> Launcher:
        """The launcher that a job was submitted by."""
        return open_launcher(
            self._folder,
            submission.scheduler,
            options=submission.options,
            python=submission.python,
        )

    def submit(self, submission: Submission) -> str:
        """Keep a record of a job, and submit it; return its handle.

        Raises:
            ValueError: If another job has that name.
        """
        folder = folder_of(self._folder, submission.key)
        if (folder / SUBMISSION_FILE).exists():
            raise ValueError(
                f"job {submission.key!r} was submitted before; see mixdim jobs status "
                f"{submission.key}, or leave --key out"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = folder / f".{SUBMISSION_FILE}{DRAFT}"
        dated = replace(submission, submitted_at=time.time())
        draft.write_bytes(_ADAPTER.dump_json(dated, indent=2) + b"\n")
        draft.rename(folder / SUBMISSION_FILE)
        try:
            return self.launcher_of(submission).submit(submission.key, submission.job)
        except (ValueError, JobError):
            (folder / SUBMISSION_FILE).unlink()  # it was refused
            raise

    def read(self, key: str) -> Submission:
        """The record of a job.

        Raises:
            ValueError: If there is none, or it cannot be read.
        """
        path = folder_of(self._folder, key) / SUBMISSION_FILE
        if not path.is_file():
            raise ValueError(
                f"no job {key!r} was submitted from {self._folder.parent}; mixdim jobs list shows "
                f"those that were"
            )
        try:
            return _ADAPTER.validate_json(path.read_bytes())
        except ValidationError as error:
            raise ValueError(f"{path}: {first_fault(error)}; restore it") from error

    def all(self) -> list[Submission]:
        """Every job, newest first."""
        keys = [path.parent.name for path in self._folder.glob(f"*/{SUBMISSION_FILE}")]
        return sorted(map(self.read, keys), key=lambda job: job.submitted_at, reverse=True)

    def status(self, submission: Submission) -> JobStatus:
        """Where a job stands; one that was never submitted is missing."""
        launcher = self.launcher_of(submission)
        handle = launcher.find(submission.key)
        if handle is None:
            return JobStatus(JobState.MISSING, message=f"{submission.scheduler} never had it")
        return launcher.status(handle)

    def explained_status(self, submission: Submission) -> JobStatus:
        """Where a job stands; one that has failed, with the reason that its log gives."""
        status = self.status(submission)
        launcher = self.launcher_of(submission)
        handle = launcher.find(submission.key)
        if status.state is not JobState.FAILED or handle is None:
            return status
        return replace(status, message=explained(status, lambda: launcher.logs(handle)))


def retried(submission: Submission, key: str) -> Submission:
    """The same job under another name; trainings and searches go on from where they were."""
    job = submission.job
    goes_on = job.verb in RESUMABLE and "--resume" not in job.arguments
    again = tuple(word for word in job.arguments if not goes_on or word != "--overwrite")
    arguments = (*again, *(["--resume"] if goes_on else []))
    return replace(submission, key=key, job=replace(job, arguments=arguments))
