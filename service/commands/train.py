"""``mixdim train PRESET_OR_FILE --data D --sizing F --output RUN --nproc 2``: train one model."""

import dataclasses
import json
import signal
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import ValidationError

from service.adapters import adapter_of
from service.config import TrainConfig
from service.data.dataset import read_dataset_info
from service.first_fault import first_fault
from service.loggers.base import check_installed
from service.presets import PRESETS
from service.run_folder import CHECKPOINTS, without_nan
from service.sizing import read_sizing
from service.stop import Stopped

if TYPE_CHECKING:
    from service.train.result import TrainResult


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainCommand:
    """Train one model on one dataset with one sizing plan."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]

    json: bool = False
    """Print the result as JSON."""

    dry_run: bool = False
    """Show what --resume-from would change, table by table, and write nothing."""


def main(argv: Sequence[str]) -> int:
    """Train on this machine's ranks, or as one rank under torchrun and TorchX."""
    start, flags = starting_point(argv)
    default = TrainCommand(config=start)
    command = tyro.cli(
        TrainCommand,
        args=flags,
        default=default,
        prog=f"mixdim train {{{','.join(PRESETS)}}}|FILE",
        description=_DESCRIPTION,
        config=(tyro.conf.AvoidSubcommands,),  # the preset has chosen the network
    )
    config = command.config
    check_installed(config.log_to)
    sizing = dataclasses.replace(read_sizing(config.sizing), join=config.network.join)
    sizing.check_against(read_dataset_info(config.data))
    sizing.check_budget(config.optimizer.sparse)
    if command.dry_run:
        return _dry_run(config, as_json=command.json)

    from service.distributed import launch

    restarts = {"max_restarts": config.max_restarts}
    try:
        result = launch(_train, config, nproc=config.nproc, name="mixdim-train", **restarts)
    except Stopped as stopped:
        return _stopped(stopped.signal, config)
    if result.rank != 0:  # under torchrun every rank comes here, and one speaks
        return 0
    if result.stopped_by:
        return _stopped(signal.Signals[result.stopped_by], config)
    _show(result, config, as_json=command.json)
    return 0


def _show(result: "TrainResult", config: TrainConfig, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(without_nan(dataclasses.asdict(result))))
        return
    scores = "  ".join(f"{name} {value:.6g}" for name, value in result.scores.items())
    print(f"{result.split}: {scores}")
    rate = f"{result.examples_per_second:,.0f} examples/s"
    best = f"best at {result.best_step}" if result.best_step >= 0 else "never validated"
    print(
        f"{result.steps} steps, {best}, {rate if result.examples_per_second else 'none new'}, "
        f"run folder {config.output}"
    )


def _train(config: TrainConfig) -> "TrainResult":
    from service.train.loop import train  # takes seconds, which only ranks have to spend

    return train(config)


def _dry_run(config: TrainConfig, *, as_json: bool) -> int:
    """Show what becomes of the run that is to go on."""
    if config.resume_from is None:
        raise ValueError(
            "--dry-run shows what becomes of a run under another sizing plan; name it: "
            "--resume-from RUN"
        )
    from rich.console import Console

    from service.commands.resize_table import resize_summary, resize_table
    from service.resize.report import report
    from service.resize.resume import read_resize

    found = report(read_resize(config))
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
        return 0
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
    console.print(resize_table(found))
    print(resize_summary(found))
    return 0


def _stopped(number: signal.Signals, config: TrainConfig) -> int:
    """Say how to go on; the exit code is the shell's for this signal."""
    how = f"the checkpoint is in {config.output}, go on with --resume"
    if not any((config.output / CHECKPOINTS).glob("step-*")):
        how = "there is no checkpoint yet, start it again"
    sys.stderr.write(f"stopped by {number.name}; {how}\n")
    return 128 + number


PLAIN_WIDTH = 120
"""Width of tables where no terminal has one."""

_DESCRIPTION = """Train one model on one dataset with one sizing plan.

The first argument is a preset or a TOML or JSON file with the same names as the flags; flags
override what it says. The defaults below are those of the preset that is named, or of dlrm:
`mixdim train mf --help` shows mf's."""


def starting_point(argv: Sequence[str]) -> tuple[TrainConfig, list[str]]:
    """The configuration that flags are laid over, and the flags.

    Raises:
        ValueError: If the first argument is neither a preset nor a file that fits.
    """
    if not argv or argv[0].startswith("-"):
        if {"--help", "-h"} & {*argv}:
            return PRESETS["dlrm"](), list(argv)
        raise ValueError(f"name a preset or a file before the flags; presets: {', '.join(PRESETS)}")
    name, *flags = argv
    if name in PRESETS:
        return PRESETS[name](), flags
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"{name!r} is neither a preset nor a file; presets: {', '.join(PRESETS)}")
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return adapter_of(TrainConfig).validate_python(content), flags
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error)}") from error
    except ValueError as error:  # neither TOML nor JSON, or no text at all
        raise ValueError(f"{path}: {error}") from error
