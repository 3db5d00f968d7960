"""The command ``mixdim``: one verb a job, each loaded only when it is called."""

import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Final

from models.tables import PlanError
from service import __version__
from service.job import JobError
from service.logs import configure_logs

VERBS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "prepare": "raw logs -> dataset folder (Parquet parts, vocabularies, statistics)",
        "size": "dataset + memory budget -> sizing.json (how wide every table is)",
        "search": "dataset + memory budget -> sizing.json by training, and what it cost",
        "explain": "sizing.json -> what every table got and why; against another: what differs",
        "plan": "sizing.json + cluster -> sharding.json (where every table lives)",
        "train": "dataset + sizing.json -> run folder (checkpoints, metrics)",
        "evaluate": "run folder + dataset -> AUC, log loss, NE, calibration",
        "export": "run folder -> artifact that scores raw rows without the training stack",
        "predict": "artifact + file of raw rows -> a prediction a row",
        "serve-model": "artifact -> predictions over HTTP, reloaded when there is a new version",
        "compare": "sizings x budgets x seeds -> quality against bytes, as table and picture",
        "demo": "the whole job on made-up or your own Criteo lines, ending in a table of plans",
        "submit": "run a verb as a job: on this machine, Slurm, Kubernetes, Docker, AWS Batch",
        "jobs": "submitted jobs: list, status, logs, cancel, retry",
        "serve": "trainings over HTTP: submit, watch, compare, download; with a status page",
        "token": "make, list or revoke tokens of that service",
        "doctor": "this machine -> what fits, what is missing, and how to get it",
        "completion": "bash, zsh or fish -> a script that completes verbs, flags and values",
        "bench": "measure ingest, loader and training step on this machine",
    }
)
"""Each verb is ``service/commands/<verb>.py`` with ``main(argv) -> exit code``; in the file's name
- is _."""

EXIT_REJECTED: Final = 2
EXIT_CANNOT_PLAN: Final = 3
EXIT_INTERRUPTED: Final = 130
EXIT_UNREAD: Final = 141
"""As shells have it of what SIGPIPE ends."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; turn what a user can mend into one clear line and an exit code."""
    configure_logs()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()  # rather than at Python's end, which would complain
    except OSError as error:  # of standard output
        is_unread = _reader_is_gone()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to flush
        return EXIT_UNREAD if is_unread else _reject("mixdim", f"standard output: {error.strerror}")


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in {"--help", "-h", "help"}:
        sys.stdout.write(_usage())
        return 0 if arguments else EXIT_REJECTED
    if arguments[0] == "--version":
        sys.stdout.write(f"mixdim {__version__}\n")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        return _reject("mixdim", f"{verb!r} is not a verb; verbs: {', '.join(VERBS)}")
    try:
        module = import_module(f"service.commands.{verb.replace('-', '_')}")
        command: Callable[[Sequence[str]], int] = module.main
        return command(rest)
    except PlanError as error:
        _reject(f"mixdim {verb}", str(error))
        return EXIT_CANNOT_PLAN
    except (ValueError, OSError, FloatingPointError) as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            raise
        return _reject(f"mixdim {verb}", _explained(error))
    except JobError as error:
        _reject(f"mixdim {verb}", str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _reject(f"mixdim {verb}", "interrupted")
        return EXIT_INTERRUPTED


def _reject(name: str, message: str) -> int:
    sys.stderr.write(f"{name}: error: {message}\n")
    return EXIT_REJECTED


def _reader_is_gone() -> bool:
    """Whether nobody reads any more what is printed here, as behind ``| head``."""
    stdout = select.poll()
    stdout.register(sys.stdout, 0)
    return any(events & select.POLLERR for _, events in stdout.poll(0))


def _explained(error: Exception) -> str:
    """An error of ours as it is; one that the system raised with what to do about it."""
    if isinstance(error, OSError) and error.errno and error.filename:
        mend = "check the path, its permissions and the free space"
        return f"{error.filename}: {error.strerror}; {mend}"
    return str(error)


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {text}" for verb, text in VERBS.items())
    return (
        "usage: mixdim VERB [options]        (mixdim VERB --help explains a verb)\n\n"
        "Train click and rating models whose embedding tables have the right size.\n\n"
        f"{verbs}\n\n  --version  print the version\n"
    )


if __name__ == "__main__":
    sys.exit(main())
