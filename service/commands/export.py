"""``mixdim export RUN --output ARTIFACT``: a run as a folder that scores raw rows."""

import dataclasses
import json
from collections.abc import Sequence

import tyro

from service.export.config import ExportConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportCommand(ExportConfig):
    """Make an artifact of a run: a folder that scores raw rows without the training stack."""

    json: bool = False
    """Print what was made as JSON."""


def main(argv: Sequence[str]) -> int:
    """Export a run, and print what its artifact scores beside it."""
    command = tyro.cli(ExportCommand, args=list(argv), prog="mixdim export")

    from service.export.export import export

    options = {
        each.name: getattr(command, each.name)
        for each in dataclasses.fields(command)
        if each.name != "json"
    }
    manifest = export(ExportConfig(**options))
    gate = manifest.gate
    if command.json:
        summary = {
            "artifact": str(command.output),
            "version": manifest.version,
            "dtype": manifest.dtype,
            "projections": manifest.projections,
            "bytes": manifest.num_bytes(),
            "split": gate.split,
            "run": dict(gate.run),
            "scores": dict(gate.artifact),
            "gaps": gate.gaps,
        }
        print(json.dumps(summary))
        return 0
    print(f"{command.output}: {manifest.num_bytes():,} bytes, version {manifest.version}")
    print(f"  {gate.split} split, {gate.num_rows:,} rows {'run':>12} {'artifact':>12} {'gap':>12}")
    for name, gap in gate.gaps.items():
        here, there = gate.run[name], gate.artifact[name]
        print(f"  {name:24} {here:>12.6f} {there:>12.6f} {gap:>+12.6f}")
    return 0
