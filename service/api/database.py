"""The tables of the service's records, and how to open them."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
}
metadata = MetaData(naming_convention=NAMES)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("idempotency_key", String(128)),
    Column("request_sha256", String(64), nullable=False),
    Column("request", JSON, nullable=False),
    Column("name", String(64), nullable=False),
    Column("verb", String(16), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("priority", Integer, nullable=False),
    Column("scheduler", String(64), nullable=False),
    Column("num_gpus", Integer, nullable=False),
    Column("folder", String(80)),
    Column("metrics_port", Integer),
    Column("num_ports", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("handle", Text),
    Column("hosts", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("exit_code", Integer),
    Column("message", Text, nullable=False),
    UniqueConstraint("owner", "idempotency_key"),
    Index("ix_jobs_folder", "folder"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job", String(32), ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("event", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("message", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String(64), nullable=False),
    Column("token", String(32), nullable=False),
    Column("action", String(32), nullable=False),
    Column("target", String(128), nullable=False),
    Column("outcome", String(256), nullable=False),
)

homes = Table("homes", metadata, Column("id", String(32), primary_key=True))

DATABASE: Final = "MIXDIM_DATABASE"
"""Environment variable with the address of the records, which holds a password."""
EXPECTED: Final = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
BUSY_SECONDS: Final = 30
"""What one process waits for another's SQLite transaction."""
POOL: Final[dict[str, int]] = {"pool_size": 16, "max_overflow": 48, "pool_timeout": 30}
"""Connections: as many as there are threads that answer and that look after jobs."""
_turns: Final[WeakKeyDictionary[Engine, Lock]] = WeakKeyDictionary()
"""Whose turn it is to write: SQLite has one writer, and makes the others try again and again."""


def connect(url: str) -> Engine:
    """Open the records; SQLite in a mode in which readers and the one writer do not wait.

    Raises:
        ValueError: If this is no address of SQLite or PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:  # which may show a password
        raise ValueError(f"{DATABASE} is no address, {EXPECTED}") from None
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS}, **POOL)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        psycopg = parsed.set(drivername="postgresql+psycopg")
        return create_engine(psycopg, pool_pre_ping=True, **POOL)
    raise ValueError(f"{DATABASE} is of {parsed.get_backend_name()!r}, {EXPECTED}")


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the tables to a revision, the newest by default; others who would do so wait.

    Raises:
        ValueError: If the records cannot be opened, or are of a newer MixDim.
    """
    place = f"records {engine.url!r}"  # without its password
    try:
        with writing(engine) as connection:
            one_at_a_time(connection)
            command.upgrade(_alembic(connection), revision)
    except CommandError as error:
        raise ValueError(
            f"{place}: {error}; a newer MixDim has written them: install it"
        ) from error
    except DBAPIError as error:
        raise ValueError(f"{place} cannot be opened: {error.orig}; check {DATABASE}") from error


def downgrade(engine: Engine, revision: str) -> None:
    """Take the tables back to a revision; ``base`` for none."""
    with engine.begin() as connection:
        command.downgrade(_alembic(connection), revision)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: SQLite takes its lock at once, so that none must be undone."""
    is_alone = engine.dialect.name == "sqlite"
    with _turns.setdefault(engine, Lock()) if is_alone else nullcontext():
        connecting = engine.connect().execution_options(mixdim_writes=True)
        with connecting as connection, connection.begin():
            yield connection


def one_at_a_time(connection: Connection) -> None:
    """Have others who change the same records wait; SQLite does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(7233141)"))


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    return config


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun below
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("mixdim_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
