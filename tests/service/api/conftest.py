"""Records to test with: SQLite always, PostgreSQL where it is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from service.api.database import connect, metadata, upgrade
from tests.service.api.served import Client, serving


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of its own, on a socket in a folder, thrown away afterwards."""
    from tests.service.api.postgres import server

    with server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Empty records at the newest revision."""
    if request.param == "sqlite":
        found = connect(f"sqlite:///{tmp_path / 'records.db'}")
    else:
        found = connect(request.getfixturevalue("postgres_url"))
    upgrade(found)
    yield found
    if request.param == "postgres":
        with found.begin() as connection:
            metadata.drop_all(connection)
            connection.execute(text("DROP TABLE alembic_version"))
    found.dispose()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service whose jobs succeed at once."""
    with serving(tmp_path_factory.mktemp("service") / "home") as served:
        yield served
