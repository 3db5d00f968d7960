"""``mixdim submit --scheduler slurm --nodes 2 train dlrm --data D ...``: a verb as a job."""

import dataclasses
import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal

import tyro

from deploy.job import VERBS, Job, parse_nodes
from service.commands.jobs import HOME, follow, home_of
from service.jobs.choice import LOCAL, SCHEDULERS, SLURM
from service.jobs.printed import printed
from service.jobs.submissions import Submission, Submissions

_SUFFIX_BYTES: Final = 3
_DESCRIPTION: Final = f"""Run a verb of mixdim as a job: mixdim submit [options] VERB [its options]

Verbs: {", ".join(VERBS)}. What stands behind the verb goes to it as it is. The job's name is
printed; mixdim jobs list, status, logs, cancel and retry know it by that."""
Pairs = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitCommand:
    """Run a verb of mixdim somewhere else, or in the background of this machine."""

    scheduler: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(SCHEDULERS)}}}")] = LOCAL
    """Who runs it: this machine, a cluster, or another scheduler that is registered with TorchX."""

    option: Pairs = ()
    """The scheduler's own: ``--option partition=gpu --option time=600``."""

    name: str = ""
    """Name that people see; mixdim-VERB by default."""

    nodes: str = "1"
    """Machines, or MIN:MAX to go on with fewer."""

    ranks_per_node: int = 1
    """Ranks on each machine, for train and evaluate; on GPU hosts one per GPU."""

    host: str = "cpu-small"
    """Resources of a machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX."""

    image: str = "mixdim:latest"
    """Container image, for schedulers that use one."""

    mount: Pairs = ()
    """What containers mount: ``--mount type=bind,src=/data,dst=/data,readonly``."""

    env: Pairs = ()
    """Environment variables of every rank: ``--env NCCL_DEBUG=INFO``."""

    max_retries: int = 0
    """How often a job that fails is started again; trainings and searches go on where they were."""

    python: str | None = None
    """slurm: interpreter with mixdim on storage that all nodes share. By default this one where it
    has torch, else what is on the path."""

    key: str = ""
    """Name of the job for mixdim jobs; NAME and a random end by default."""

    home: Path = HOME
    """Folder of the records and, on Slurm, of logs: on storage that all nodes share."""

    wait: bool = False
    """Show the job's output until it ends, and end as it did."""

    print: Literal["torchrun", "slurm", "kubernetes", "all"] | None = None
    """Submit nothing; print the same job for people who start it without mixdim."""

    dry_run: bool = False
    """Submit nothing; print what the scheduler would be handed."""

    json: bool = False
    """Print name, scheduler and handle as JSON."""


def main(argv: Sequence[str]) -> int:
    """Submit a job and print its name."""
    own, (verb, *arguments) = split(argv)
    command = tyro.cli(SubmitCommand, args=own, prog="mixdim submit", description=_DESCRIPTION)
    submission = _submission(command, verb, tuple(arguments))
    named = dataclasses.replace(submission.job, name=submission.key)
    if command.print:
        sys.stdout.write(printed(command.print, named, submission.options))
        return 0
    if command.dry_run:
        print(_described(submission, command.home))
        return 0
    submissions = Submissions(home_of(command.home))
    handle = submissions.submit(submission)
    if command.json:
        shown = {"job": submission.key, "scheduler": command.scheduler, "handle": handle}
        print(json.dumps(shown))
    else:
        print(submission.key)
        sys.stderr.write(f"submitted to {command.scheduler}; mixdim jobs status {submission.key}\n")
    return follow(submissions, submission) if command.wait else 0


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags of submit, and the verb with everything behind it, whatever that looks like."""
    switches = {_flag(field) for field in dataclasses.fields(SubmitCommand) if field.type is bool}
    place = 0
    while place < len(argv) and argv[place].startswith("-"):
        word = argv[place].replace("_", "-").replace("--no-", "--")
        is_alone = "=" in word or word in {*switches, "--help"}
        place += 1 if is_alone else 2
    return list(argv[:place]), list(argv[place:]) or [""]


def _flag(field: dataclasses.Field[object]) -> str:
    return f"--{field.name.replace('_', '-')}"


def _submission(command: SubmitCommand, verb: str, arguments: tuple[str, ...]) -> Submission:
    if verb not in VERBS:
        said = f"{verb!r} is not a verb that can be a job" if verb else "no verb to submit"
        raise ValueError(f"{said}; verbs: {', '.join(VERBS)}")
    fewest, most = parse_nodes(command.nodes)
    job = Job(
        verb,
        arguments,
        command.name or f"mixdim-{verb}",
        nodes=most,
        min_nodes=fewest,
        ranks_per_node=command.ranks_per_node,
        host=command.host,
        image=command.image,
        mounts=command.mount,
        environment=_pairs("env", command.env),
        max_retries=command.max_retries,
    )
    return Submission(
        key=command.key or f"{job.name}-{secrets.token_hex(_SUFFIX_BYTES)}",
        scheduler=command.scheduler,
        options=_pairs("option", command.option),
        python=_python(command),
        job=job,
    )


def _pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--{flag} {text!r}, expected NAME=VALUE")
        pairs[name] = value
    return pairs


def _python(command: SubmitCommand) -> str:
    if command.python is not None:
        return command.python
    has_torch = command.scheduler == SLURM and find_spec("torch") is not None
    return sys.executable if has_torch else ""


def _described(submission: Submission, home: Path) -> str:
    """What the scheduler would be handed."""
    launcher = Submissions(home_of(home)).launcher_of(submission)
    return launcher.describe(submission.key, submission.job)
