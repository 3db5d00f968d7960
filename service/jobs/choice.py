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
        ValueError: If options are given to a launcher that has none.
    """
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
