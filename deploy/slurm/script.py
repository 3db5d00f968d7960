"""The batch script of a job: one elastic agent a machine, started again where that may help."""

import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from deploy.command import GRACE_SECONDS, RENDEZVOUS_PORT, command, environment
from deploy.job import Job, check
from deploy.resources import find_resource

OPTIONS: Final = (
    *("partition", "time", "account", "qos", "constraint", "reservation", "dependency"),
    *("comment", "mail-user", "mail-type", "exclude", "nodelist", "nice"),
)
"""Options of sbatch that a person may add."""
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
FINAL_EXIT_CODES: Final = (2, 3)
"""Rejected input, and tables that do not fit: another start would end the same way."""


def script(
    job: Job,
    *,
    options: Mapping[str, str] = NOTHING,
    log: str = "%x-%j.log",
    python: str = "",
    rendezvous_port: int = RENDEZVOUS_PORT,
) -> str:
    """Describe a job as ``sbatch`` takes it.

    Machines come and go as a whole: when one is lost, Slurm puts the job back into its queue, and
    the next start goes on from the last checkpoint. So does one that fails, ``max_retries`` times.
    Before the time is over, ranks are told to write a checkpoint, which counts as a failure.

    Args:
        job: The job.
        options: Options of sbatch, such as partition and time; see `OPTIONS`.
        log: File of its output, in Slurm's words; later starts append to it.
        python: Interpreter that has mixdim, on storage that all machines share; empty for what
            is on the path where the job is submitted.
        rendezvous_port: Port of the first machine where ranks on several machines meet.

    Raises:
        ValueError: If the job or an option cannot be.
    """
    check(job)
    _check(options)
    cores = find_resource(job.host).cpu
    asked = {**_asked(job), "output": log, "open-mode": "append", **options}
    variables = {"PYTHONUNBUFFERED": "1", **environment(job, cores)}
    started = command(
        job, endpoint=f'"$head:{rendezvous_port}"', run_id='"$SLURM_JOB_ID"', python=python
    )
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{name}={shlex.quote(value)}" for name, value in asked.items()),
        f"#SBATCH --{'' if job.max_retries else 'no-'}requeue",
        "",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        *_head(job),
        # Since 22.05 srun does not know how many cores sbatch was asked for.
        f"srun --kill-on-bad-exit=1 --cpus-per-task={cores} \\",
        f"  {started}",
        "code=$?",
        *_again(job),
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


def _asked(job: Job) -> dict[str, str]:
    resource = find_resource(job.host)
    return {
        "job-name": job.name,
        "nodes": job.node_range.replace(":", "-"),
        "ntasks-per-node": "1",
        "cpus-per-task": str(resource.cpu),
        "mem": f"{resource.memMB}M",
        **({"gpus-per-node": str(resource.gpu)} if resource.gpu > 0 else {}),
        "signal": f"TERM@{GRACE_SECONDS}",
    }


def _check(options: Mapping[str, str]) -> None:
    for name, value in options.items():
        if name not in OPTIONS:
            raise ValueError(
                f"option {name!r} is not one that a job may set; options: {', '.join(OPTIONS)}"
            )
        if not value or any(character.isspace() for character in value):
            raise ValueError(f"option {name}={value!r}, expected one word; leave out the spaces")


def _head(job: Job) -> list[str]:
    if job.nodes == 1:
        return []
    return ['head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)']


def _again(job: Job) -> list[str]:
    """Put a job that failed back into the queue, unless it would fail the same way again."""
    if not job.max_retries:
        return []
    final = " ".join(f"&& [ $code -ne {code} ]" for code in (0, *FINAL_EXIT_CODES))
    tries = f'[ "${{SLURM_RESTART_COUNT:-0}}" -lt {job.max_retries} ]'
    return [f'{tries} {final} && scontrol requeue "$SLURM_JOB_ID"']
