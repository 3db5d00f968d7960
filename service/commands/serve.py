"""``mixdim serve --home HOME``: trainings over HTTP, with their records and their page."""

import fcntl
import logging
import os
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

DATABASE: Final = "MIXDIM_DATABASE"
"""Environment variable with the address of the records, which holds a password."""
LOCK_FILE: Final = "serve.lock"

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
    config = command.config

    import uvicorn

    from service.api.app import build, guarded
    from service.api.database import connect, upgrade

    home = config.home.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(home):
        engine = connect(database_url(home))
        upgrade(engine)
        first_token(engine)
        app = build(config, engine, launchers(config, home))
        logger.info("serving %s on http://%s:%d", home, config.host, config.port)
        uvicorn.run(
            guarded(app),
            host=config.host,
            port=config.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        engine.dispose()
    return 0


def database_url(home: Path) -> str:
    """Where the records are."""
    return os.environ.get(DATABASE) or f"sqlite:///{home / 'mixdim.db'}"


def first_token(engine: "Engine") -> None:
    """Let somebody in, where nobody could be: print a token, once."""
    from service.api.accounts import Accounts, Role

    accounts = Accounts(engine)
    if accounts.are_none():
        _, secret = accounts.create("admin", Role.ADMIN)
        sys.stderr.write(f"first admin token, shown this once: {secret}\n")


def launchers(config: ServiceConfig, home: Path) -> "Mapping[str, Launcher]":
    """What starts jobs, by the name of its scheduler.

    Raises:
        ValueError: If there is no such scheduler.
    """
    from service.jobs.local import LocalLauncher

    local = LocalLauncher(home / "jobs", grace_seconds=config.grace_seconds)
    if unknown := [name for name in config.schedulers if name != "local"]:
        raise ValueError(f"schedulers: {unknown[0]!r} is none that is served; try local")
    return {"local": local}


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
