"""Jobs on a Slurm cluster, by the commands that every one has: sbatch, scontrol, sacct, scancel.

The script that is submitted is the one that ``mixdim submit --print slurm`` shows.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from deploy.slurm import script
from service.job import JobError
from service.jobs.launcher import AwayError, Job, JobState, JobStatus
from service.jobs.local import SECRETS
from service.jobs.log_file import lines_of
from service.jobs.once import folder_of, known_handle, once, rendezvous_port

SCRIPT_FILE: Final = "job.sh"
LOG_FILE: Final = "log.txt"
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
STATES: Final[Mapping[str, JobState]] = MappingProxyType(
    {
        **dict.fromkeys(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD"), JobState.PENDING),
        **dict.fromkeys(("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED"), JobState.RUNNING),
        **dict.fromkeys(("RESIZING", "SIGNALING", "STAGE_OUT"), JobState.RUNNING),
        "COMPLETED": JobState.SUCCEEDED,
        "CANCELLED": JobState.CANCELLED,
    }
)
"""What Slurm's words mean; all others are kinds of failure."""
ACCOUNTED: Final = ("JobID", "State", "ExitCode", "NodeList")
EXIT_SIGNALLED: Final = 128
NO_ANSWER: Final = (
    *("Unable to contact slurm controller", "Socket timed out", "Connection refused"),
    *("Zero Bytes were transmitted", "in standby mode", "Problem talking to the database"),
)
"""What Slurm's commands say when a daemon does not answer, which tells nothing of a job."""

_FACT = re.compile(r"(\w+)=(\S*)")


class SlurmLauncher:
    """Runs jobs on a Slurm cluster; a job's name there is its key.

    Slurm's controller knows a job for some minutes after its end, and its accounting, where there
    is one, for ever.

    Args:
        folder: Gets a folder for each job, on storage that the nodes share.
        options: Options of sbatch, such as partition and time; see `deploy.slurm.OPTIONS`.
        python: Interpreter that has mixdim, on storage that the nodes share; empty for what is on
            the path.
    """

    def __init__(
        self, folder: Path, *, options: Mapping[str, str] = NOTHING, python: str = ""
    ) -> None:
        self._folder = folder.resolve()
        self._options = options
        self._python = python

    def submit(self, key: str, job: Job) -> str:
        """Submit a job, once: a second call with the same key finds the first call's job.

        Raises:
            ValueError: If the job, the key or an option cannot be.
            JobError: If Slurm does not take it.
            AwayError: If Slurm does not answer.
        """
        folder = folder_of(self._folder, key)
        text = self.describe(key, job)

        def start(lock: int) -> str:
            (folder / SCRIPT_FILE).write_text(text)
            said = _slurm("sbatch", "--parsable", str(folder / SCRIPT_FILE), pass_fds=(lock,))
            number, *_cluster = said.strip().split(";")
            return f"{key}/{number}"

        return once(folder, lambda: self._search(key), start)

    def describe(self, key: str, job: Job) -> str:
        """The script that `submit` would submit."""
        return script(
            replace(job, name=key),
            options=self._options,
            log=str(folder_of(self._folder, key) / LOG_FILE).replace("%", "%%"),  # no pattern
            python=self._python,
            rendezvous_port=rendezvous_port(key),
        )

    def find(self, key: str) -> str | None:
        """Handle of the job that was submitted with a key; None if there is none."""
        return known_handle(folder_of(self._folder, key)) or self._search(key)

    def status(self, handle: str) -> JobStatus:
        """Where a job stands, by the controller, or by the accounting that remembers longer."""
        _, number = _parts(handle)
        facts = _controlled(number) or _accounted(number)
        if not facts:
            return JobStatus(JobState.MISSING, message=f"Slurm knows no job {number}")
        state = STATES.get(facts["JobState"].split()[0].rstrip("+"), JobState.FAILED)
        return JobStatus(
            state,
            exit_code=_exit_code(facts["ExitCode"]) if state.is_final else None,
            message=_message(facts),
            hosts=_hosts(facts["NodeList"]) if state is JobState.RUNNING else (),
        )

    def logs(self, handle: str, *, follow: bool = False, offset: int = 0) -> Iterator[str]:
        """Lines of a job's output, of all its starts."""
        key, _ = _parts(handle)
        return lines_of(
            folder_of(self._folder, key) / LOG_FILE,
            lambda: self.status(handle).state.is_final,
            follow=follow,
            offset=offset,
        )

    def cancel(self, handle: str) -> None:
        """End a job; between SIGTERM and SIGKILL is the cluster's ``KillWait``."""
        if not self.status(handle).state.is_final:
            _slurm("scancel", _parts(handle)[1])

    def _search(self, key: str) -> str | None:
        named = (f"--name={key}", "--noheader")
        found = _slurm("squeue", *named, "--states=all", "--format=%A").split()
        if not found:
            ever = ("--starttime=1970-01-02", "--allocations", "--parsable2", "--format=JobID")
            found = _slurm("sacct", *named, *ever, is_needed=False).split()
        return f"{key}/{found[0]}" if found else None


def _parts(handle: str) -> tuple[str, str]:
    key, _, number = handle.rpartition("/")
    return key, number


def _controlled(number: str) -> Mapping[str, str]:
    """What the controller knows of a job: nothing, some minutes after its end."""
    said = _slurm("scontrol", "show", "job", number, "--oneliner", is_needed=False)
    return dict(_FACT.findall(said))


def _accounted(number: str) -> Mapping[str, str]:
    """The same of the accounting; nothing where there is none."""
    wanted = ("--noheader", "--parsable2", "--allocations", f"--format={','.join(ACCOUNTED)}")
    for line in _slurm("sacct", f"--jobs={number}", *wanted, is_needed=False).splitlines():
        facts = dict(zip(ACCOUNTED, line.split("|"), strict=True))
        return {**facts, "JobState": facts["State"]}
    return {}


def _exit_code(text: str) -> int:
    """The shell's exit code of Slurm's CODE:SIGNAL."""
    code, _, signal = text.partition(":")
    return EXIT_SIGNALLED + int(signal) if int(signal or 0) else int(code)


def _message(facts: Mapping[str, str]) -> str:
    reason = facts.get("Reason", "None")
    said = [facts["JobState"].lower(), *([] if reason == "None" else [reason])]
    if (restarts := facts.get("Restarts", "0")) != "0":
        said.append(f"restarts {restarts}")
    return ", ".join(said)


def _hosts(nodes: str) -> tuple[str, ...]:
    if not {"[", ","} & set(nodes):
        return (nodes,) if nodes else ()
    return tuple(_slurm("scontrol", "show", "hostnames", nodes).split())


def _slurm(*command: str, is_needed: bool = True, pass_fds: tuple[int, ...] = ()) -> str:
    """What a command of Slurm's says; where it fails and is not needed, nothing.

    Raises:
        JobError: If there is no such command, or it fails.
        AwayError: If it gets no answer, needed or not: jobs may well be there.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=ours, pass_fds=pass_fds)
    except FileNotFoundError:
        raise JobError(
            f"{command[0]} is not on this machine; submit from a login node of the cluster, or "
            f"name another --scheduler"
        ) from None
    said = " ".join(done.stderr.split()) or "nothing"
    if done.returncode and any(sign in said for sign in NO_ANSWER):
        raise AwayError(f"{command[0]} got no answer from Slurm and said: {said}; ask again")
    if done.returncode and is_needed:
        raise JobError(f"{command[0]} ended with exit code {done.returncode} and said: {said}")
    return "" if done.returncode else done.stdout
