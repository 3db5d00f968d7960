"""A PostgreSQL for tests: a new data folder, a socket instead of a port, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "postgres"


def find_binaries() -> Path | None:
    """Folder of initdb and postgres; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def server() -> Iterator[str]:
    """The address of a server that runs until the end of the block."""
    binaries = find_binaries()
    if binaries is None or not (binaries / "initdb").exists():
        pytest.skip("PostgreSQL is not installed; apt-get install postgresql")
    home = Path(tempfile.mkdtemp(prefix="mixdim-pg-"))  # where its user may look, and short
    data = home / "data"
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(home, USER)
    try:
        _run(
            binaries / "initdb",
            "-D",
            data,
            "-U",
            USER,
            "-A",
            "trust",
            "-N",
            "--no-locale",
            "-EUTF8",
        )
        options = f"-k {home} -c listen_addresses= -c fsync=off -c max_connections=200"
        _run(binaries / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start")
        try:
            yield f"postgresql://{USER}@/postgres?host={home}"
        finally:
            _run(binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _run(*command: object) -> None:
    """As a user that PostgreSQL accepts."""
    user = pwd.getpwnam(USER).pw_uid if os.geteuid() == 0 else None
    done = subprocess.run(
        list(map(str, command)), user=user, capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr + done.stdout
