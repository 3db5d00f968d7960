"""``mixdim doctor``: can this machine do it, and if not, what is missing and how to get it."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tyro
from rich.console import Console

from service import __version__
from service.doctor.findings import Finding
from service.doctor.machine import look_at_machine
from service.doctor.packages import Role, installed, look_at_packages
from service.doctor.training import look_at_training

SIGNS: Final = {"ok": "[green]ok[/]   ", "hint": "[yellow]hint[/] ", "wrong": "[red]wrong[/]"}


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorCommand:
    """Look at this machine: packages that fit together, GPUs, memory, disks, limits, schedulers.

    Exit code 0 where nothing is wrong, 1 where something must be mended first.
    """

    role: Role = "train"
    """What the machine is for: train, submit (no torch needed), or serve. What the role needs and
    has not is wrong; what another role needs is a hint."""

    folder: Path = Path()
    """Where datasets and runs are to be."""

    quick: bool = False
    """Do not load torch, TorchRec and FBGEMM, which takes seconds."""

    json: bool = False
    """Print what was found as JSON."""


def main(argv: Sequence[str]) -> int:
    """Look, and say what to do."""
    command = tyro.cli(DoctorCommand, args=list(argv), prog="mixdim doctor")
    found = [*look_at_packages(command.role), *look_at_machine(command.folder)]
    if not command.quick and installed("torch"):
        has_driver = any(f.name == "GPUs" and "none" not in f.value for f in found)
        is_needed = command.role == "train"
        found += look_at_training(has_driver=has_driver, is_needed=is_needed)
    num_wrong = sum(finding.state == "wrong" for finding in found)
    if command.json:
        content = {
            "version": __version__,
            "role": command.role,
            "ok": not num_wrong,
            "findings": [dataclasses.asdict(finding) for finding in found],
        }
        print(json.dumps(content, indent=1))
    else:
        _show(found)
        print(f"\n{num_wrong} to mend for role {command.role!r}" if num_wrong else "\nall is well")
    return 1 if num_wrong else 0


def _show(found: Sequence[Finding]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(finding.name) for finding in found)
    for area in dict.fromkeys(finding.area for finding in found):
        console.print(f"[bold]{area}[/]")
        for finding in found:
            if finding.area == area:
                console.print(f"  {SIGNS[finding.state]} {finding.name:{width}}  ", end="")
                console.print(finding.value, markup=False)
                if finding.advice:
                    console.print(f"{'':{width + 10}}-> {finding.advice}", markup=False)
