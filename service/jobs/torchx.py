"""Jobs by TorchX' schedulers: Docker, Kubernetes with Volcano, AWS Batch and whoever registers.

TorchX' own Slurm scheduler is passed by: in 0.7.0 it crashes when it is asked about a cancelled
job, and starts input again that was refused; see `service.jobs.slurm`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from torchx.runner import Runner
from torchx.schedulers import get_scheduler_factories
from torchx.specs import AppDryRunInfo, AppState, CfgVal, parse_app_handle
from torchx.specs.api import InvalidRunConfigException, runopts

from deploy.app import app
from service.jobs.launcher import Job, JobState, JobStatus, lines_after
from service.jobs.once import folder_of, known_handle, once, rendezvous_port

ROLE: Final = "mixdim"
"""Name of the only role of a job."""
EXTRAS: Final[Mapping[str, str]] = MappingProxyType({"kubernetes": "kubernetes", "boto3": "aws"})
"""Which extra of ours installs what a scheduler asks for."""
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
STATES: Final[Mapping[AppState, JobState]] = MappingProxyType(
    {
        AppState.RUNNING: JobState.RUNNING,
        AppState.SUCCEEDED: JobState.SUCCEEDED,
        AppState.FAILED: JobState.FAILED,
        AppState.CANCELLED: JobState.CANCELLED,
    }
)
"""What TorchX' states mean; all others are kinds of waiting."""


class TorchXLauncher:
    """Runs jobs by one of TorchX' schedulers; a job's name there begins with its key.

    Args:
        folder: Gets a folder for each job.
        scheduler: TorchX' name of the scheduler.
        options: Its options, such as queue and namespace; ``torchx runopts`` lists them.
    """

    def __init__(
        self, folder: Path, scheduler: str, *, options: Mapping[str, str] = NOTHING
    ) -> None:
        self._folder = folder.resolve()
        self._scheduler = scheduler
        self._options = options

    def submit(self, key: str, job: Job) -> str:
        """Submit a job, once: a second call with the same key finds the first call's job.

        Raises:
            ValueError: If the job, the key or an option cannot be.
        """
        folder = folder_of(self._folder, key)
        request = self._dry_run(key, job)
        return once(
            folder, lambda: self._search(key), lambda _: str(self._runner(key).schedule(request))
        )

    def describe(self, key: str, job: Job) -> str:
        """What the scheduler would be handed."""
        return str(self._dry_run(key, job))

    def find(self, key: str) -> str | None:
        """Handle of the job that was submitted with a key; None if there is none."""
        return known_handle(folder_of(self._folder, key)) or self._search(key)

    def status(self, handle: str) -> JobStatus:
        """Where a job stands."""
        known = self._runner_of(handle).status(handle)
        if known is None:
            return JobStatus(JobState.MISSING)
        said = known.msg.strip() if isinstance(known.msg, str) else ""
        return JobStatus(
            STATES.get(known.state, JobState.PENDING), message="" if said == "<NONE>" else said
        )

    def logs(self, handle: str, *, follow: bool = False, offset: int = 0) -> Iterator[str]:
        """Lines of the first machine's output, where rank 0 speaks."""
        said = self._runner_of(handle).log_lines(handle, ROLE, should_tail=follow)
        lines = chain.from_iterable(text.splitlines() for text in said)
        return lines_after(lines, offset)

    def cancel(self, handle: str) -> None:
        """End a job, as the scheduler does that."""
        self._runner_of(handle).cancel(handle)

    def _dry_run(self, key: str, job: Job) -> AppDryRunInfo[Any]:
        described = app(replace(job, name=key), rendezvous_port=rendezvous_port(key), role=ROLE)
        runner = self._runner(key)
        try:
            options = self._parsed(runner.scheduler_run_opts(self._scheduler))
            return runner.dryrun(described, self._scheduler, options)
        except InvalidRunConfigException as error:
            raise ValueError(
                f"options {dict(self._options)}: {_first_line(error)}; mixdim submit takes it as "
                f"--option NAME=VALUE"
            ) from error
        except ModuleNotFoundError as error:
            missing = error.name or ""
            extra = EXTRAS.get(missing.split(".")[0], missing)
            raise ValueError(
                f"scheduler {self._scheduler!r} needs the package {missing}, which is not "
                f"installed; pip install 'mixdim[{extra}]'"
            ) from error

    def _parsed(self, options: runopts) -> dict[str, CfgVal]:
        known = [name for name, _ in options]
        for name in self._options:
            if name not in known:
                raise ValueError(
                    f"option {name!r} is not one of {self._scheduler}'s; options: "
                    f"{', '.join(known)}"
                )
        text = ",".join(f"{name}={value}" for name, value in self._options.items())
        return dict(options.cfg_from_str(text)) if text else {}

    def _search(self, key: str) -> str | None:
        ours = re.compile(rf"(.*[:/])?{re.escape(key)}-[a-z0-9]+")
        for known in self._runner(key).list(self._scheduler):
            if ours.fullmatch(known.app_id):
                return known.app_handle
        return None

    def _runner(self, key: str) -> Runner:
        """TorchX puts the session's name into a job's handle: it is the key."""
        factories = get_scheduler_factories()
        if self._scheduler not in factories:
            raise ValueError(
                f"scheduler {self._scheduler!r} is not one of TorchX'; schedulers: "
                f"{', '.join(factories)}"
            )
        return Runner(key, factories)

    def _runner_of(self, handle: str) -> Runner:
        return self._runner(parse_app_handle(handle).session_name)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
