"""Which launcher a scheduler's name stands for."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from service.jobs.launcher import Launcher
from service.jobs.local import LocalLauncher
from service.jobs.slurm import SlurmLauncher

LOCAL: Final = "local"
SLURM: Final = "slurm"
BY_TORCHX: Final[Mapping[str, str]] = MappingProxyType(
    {"docker": "local_docker", "kubernetes": "kubernetes", "aws_batch": "aws_batch"}
)
"""Schedulers of TorchX by the names that they have here."""
OF_THIS_PROCESS: Final = frozenset({"local_cwd"})
"""Schedulers of TorchX that end their jobs with the process that has started them."""
SCHEDULERS: Final = (LOCAL, SLURM, *BY_TORCHX)


def open_launcher(
    folder: Path, scheduler: str, *, options: Mapping[str, str], python: str = ""
) -> Launcher:
    """The launcher of a scheduler.

    Args:
        folder: Gets a folder for each job; on Slurm on storage that the nodes share.
        scheduler: One of `SCHEDULERS`, or a scheduler that is registered with TorchX.
        options: The scheduler's own.
        python: Interpreter that has mixdim, on Slurm's nodes; empty for what is on the path.

    Raises:
        ValueError: If options are given to a launcher that has none, or jobs would not outlive who
            starts them.
    """
    if scheduler in OF_THIS_PROCESS:
        raise ValueError(
            f"scheduler {scheduler!r} of TorchX ends its jobs with the process that has started "
            f"them, and knows of no others; take {LOCAL!r}, which does the same and outlives it"
        )
    if scheduler == LOCAL:
        if options:
            raise ValueError(
                f"option {next(iter(options))!r}: the scheduler 'local' has no options"
            )
        return LocalLauncher(folder)
    if scheduler == SLURM:
        return SlurmLauncher(folder, options=options, python=python)
    from service.jobs.torchx import TorchXLauncher  # half a second, which the others spare

    return TorchXLauncher(folder, BY_TORCHX.get(scheduler, scheduler), options=options)
