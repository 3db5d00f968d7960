"""``mixdim serve --home HOME``: trainings over HTTP, with their records and their page."""

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import tyro

from service.api.config import ServiceConfig

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.jobs.launcher import Launcher

LOCK_FILE: Final = "serve.lock"
KEEP_ALIVE_SECONDS: Final = 75
"""Longer than proxies keep idle connections, which must not be closed under their hands."""
SHUTDOWN_SECONDS: Final = 5
"""What answers that are being given, such as logs that are followed, get to end."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeCommand:
    """Serve trainings over HTTP.

    Records lie in HOME/mixdim.db, or where the environment variable MIXDIM_DATABASE says:
    postgresql://USER:PASSWORD@HOST/NAME. Jobs go on when the service ends.
    """

    config: Annotated[ServiceConfig, tyro.conf.arg(name="")]


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop."""
    command = tyro.cli(ServeCommand, args=list(argv), prog="mixdim serve")
    return run(command.config, launchers(command.config))


def run(config: ServiceConfig, launchers: "Mapping[str, Launcher]") -> int:
    """Serve until told to stop; what starts jobs is given.

    Raises:
        ValueError: If the folder is served already, or the records cannot be opened or are
            another folder's.
    """
    import uvicorn

    from service.api.app import build, guarded
    from service.api.belonging import claim
    from service.api.database import connect, upgrade

    home = config.home.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(home):
        engine = connect(database_url(home))
        upgrade(engine)
        claim(engine, home)
        first_token(engine)
        app = build(config, engine, launchers)
        logger.info("serving %s on http://%s:%d", home, config.host, config.port)
        # uvicorn listens itself, and passes the signal on once it has ended.
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        uvicorn.run(
            guarded(app),
            host=config.host,
            port=config.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        engine.dispose()
    return 0


def database_url(home: Path) -> str:
    """Where the records are."""
    from service.api.database import DATABASE

    return os.environ.get(DATABASE) or f"sqlite:///{home / 'mixdim.db'}"


def first_token(engine: "Engine") -> None:
    """Let somebody in, where nobody could be: print a token, once."""
    from service.api.accounts import Accounts, Role

    accounts = Accounts(engine)
    if accounts.are_none():
        _, secret = accounts.create("admin", Role.ADMIN)
        sys.stderr.write(f"first admin token, shown this once: {secret}\n")


def launchers(config: ServiceConfig) -> "dict[str, Launcher]":
    """What starts jobs, by the name of its scheduler.

    Raises:
        ValueError: If an option is of no scheduler that is served, or no NAME=VALUE.
    """
    from service.jobs.choice import LOCAL, open_launcher
    from service.jobs.local import LocalLauncher

    folder = config.home.resolve() / "jobs"
    options: dict[str, dict[str, str]] = {name: {} for name in config.schedulers}
    for option in config.scheduler_options:
        scheduler, _, setting = option.partition(".")
        name, is_given, value = setting.partition("=")
        if scheduler not in options or not is_given:
            raise ValueError(
                f"scheduler_options: {option!r}, expected SCHEDULER.NAME=VALUE with one of "
                f"{', '.join(options)}, such as slurm.partition=batch"
            )
        options[scheduler][name] = value
    opened = {
        name: open_launcher(folder, name, options=given, python=config.python)
        for name, given in options.items()
    }
    if LOCAL in opened:
        opened[LOCAL] = LocalLauncher(
            folder, grace_seconds=config.grace_seconds, log_bytes=config.limits.log_bytes
        )
    return opened


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / LOCK_FILE).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{home} is served by another process; stop that one, or give another --home"
            ) from None
        yield
