"""``mixdim jobs list|status|logs|cancel|retry``: what `mixdim submit` has submitted."""

import dataclasses
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from service.job import EXIT_LOST, JobError
from service.jobs.launcher import JobState, JobStatus
from service.jobs.submissions import Submission, Submissions, retried

HOME: Final = Path("~/.mixdim")
PLAIN_WIDTH: Final = 160
"""Columns of the table where stdout is a file or a pipe."""
POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Jobs:
    home: Path = HOME
    """Folder of the records, as it was given to mixdim submit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListJobs(_Jobs):
    """List jobs, newest first."""

    state: Annotated[JobState | None, tyro.conf.EnumChoicesFromValues] = None
    """Only those in this state."""

    json: bool = False
    """Print them as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowStatus(_Jobs):
    """Say where a job stands."""

    job: tyro.conf.Positional[str]
    """Name that mixdim submit has printed."""

    json: bool = False
    """Print it as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowLogs(_Jobs):
    """Print a job's output."""

    job: tyro.conf.Positional[str]
    """Name that mixdim submit has printed."""

    follow: bool = False
    """Wait for more, until the job ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelJob(_Jobs):
    """End a job: SIGTERM, time for a checkpoint, SIGKILL."""

    job: tyro.conf.Positional[str]
    """Name that mixdim submit has printed."""

    json: bool = False
    """Print where it stands then as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryJob(_Jobs):
    """Submit a job that has ended again; trainings and searches go on from where they were."""

    job: tyro.conf.Positional[str]
    """Name that mixdim submit has printed."""

    json: bool = False
    """Print the new job's name as JSON."""


Command = (
    Annotated[ListJobs, tyro.conf.subcommand("list")]
    | Annotated[ShowStatus, tyro.conf.subcommand("status")]
    | Annotated[ShowLogs, tyro.conf.subcommand("logs")]
    | Annotated[CancelJob, tyro.conf.subcommand("cancel")]
    | Annotated[RetryJob, tyro.conf.subcommand("retry")]
)


def main(argv: Sequence[str]) -> int:
    """Look after jobs."""
    command: Command = tyro.cli(
        Command, args=list(argv), prog="mixdim jobs", description="Look after submitted jobs."
    )
    jobs = Submissions(home_of(command.home))
    if isinstance(command, ListJobs):
        return _list(jobs, command)
    submission = jobs.read(command.job)
    if isinstance(command, ShowStatus):
        return _show(jobs, submission, as_json=command.json)
    if isinstance(command, ShowLogs):
        return _logs(jobs, submission, follow=command.follow)
    if isinstance(command, CancelJob):
        return _cancel(jobs, submission, as_json=command.json)
    return _retry(jobs, submission, as_json=command.json)


def home_of(path: Path) -> Path:
    """A home folder with the person's own put in."""
    return path.expanduser().resolve()


def follow(jobs: Submissions, submission: Submission) -> int:
    """Print a job's output until it ends, and return what it ended with."""
    _logs(jobs, submission, follow=True)
    while not (status := jobs.status(submission)).state.is_final:
        time.sleep(POLL_SECONDS)
    sys.stderr.write(f"{_line(submission, status)}\n")
    return 0 if status.state is JobState.SUCCEEDED else status.exit_code or EXIT_LOST


def _list(jobs: Submissions, command: ListJobs) -> int:
    found = [(submission, _status_or_why_not(jobs, submission)) for submission in jobs.all()]
    found = [pair for pair in found if command.state in (None, pair[1].state)]
    if command.json:
        print(json.dumps([_entries(*pair) for pair in found], indent=2))
        return 0
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("job", "verb", "scheduler", "state", "submitted", "message"):
        table.add_column(heading)
    for submission, status in found:
        when = f"{datetime.fromtimestamp(submission.submitted_at, UTC):%Y-%m-%d %H:%M} UTC"
        table.add_row(
            *(submission.key, submission.job.verb, submission.scheduler),
            *(status.state, when, status.message),
        )
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)).print(table)
    return 0


def _status_or_why_not(jobs: Submissions, submission: Submission) -> JobStatus:
    """Where a job stands; a cluster that does not answer hides none of the others' jobs."""
    try:
        return jobs.status(submission)
    except JobError as error:
        return JobStatus(JobState.MISSING, message=str(error))


def _show(jobs: Submissions, submission: Submission, *, as_json: bool) -> int:
    status = jobs.explained_status(submission)
    print(json.dumps(_entries(submission, status)) if as_json else _line(submission, status))
    return 0


def _logs(jobs: Submissions, submission: Submission, *, follow: bool) -> int:
    launcher = jobs.launcher_of(submission)
    if (handle := launcher.find(submission.key)) is not None:
        for line in launcher.logs(handle, follow=follow):
            print(_printable(line), flush=follow)
    return 0


def _printable(line: str) -> str:
    """A line whose bytes may be any."""
    return line.encode(errors="surrogateescape").decode(errors="replace")


def _cancel(jobs: Submissions, submission: Submission, *, as_json: bool) -> int:
    launcher = jobs.launcher_of(submission)
    if (handle := launcher.find(submission.key)) is not None:
        launcher.cancel(handle)
    return _show(jobs, submission, as_json=as_json)


def _retry(jobs: Submissions, submission: Submission, *, as_json: bool) -> int:
    status = jobs.status(submission)
    if not status.state.is_final:
        raise ValueError(
            f"job {submission.key!r} is {status.state}, expected one that has ended; cancel it "
            f"first: mixdim jobs cancel {submission.key}"
        )
    stem = re.sub(r"-retry\d+$", "", submission.key)
    taken = {known.key for known in jobs.all()}
    key = next(k for n in range(1, len(taken) + 2) if (k := f"{stem}-retry{n}") not in taken)
    jobs.submit(retried(submission, key))
    print(json.dumps({"job": key}) if as_json else key)
    return 0


def _entries(submission: Submission, status: JobStatus) -> dict[str, object]:
    return {
        **dataclasses.asdict(status),
        "job": submission.key,
        "scheduler": submission.scheduler,
        "command": ["mixdim", *submission.job.words],
        "submitted_at": submission.submitted_at,
    }


def _line(submission: Submission, status: JobStatus) -> str:
    is_news = status.exit_code is not None and "exit code" not in status.message
    code = f", exit code {status.exit_code}" if is_news else ""
    message = f" ({status.message})" if status.message else ""
    where = f" on {' '.join(status.hosts)}" if status.hosts else ""
    return f"{submission.key}: {status.state}{where}{code}{message}"
