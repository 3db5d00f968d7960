"""`mixdim serve` and `mixdim token` as an operator types them, with a real job."""

import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.__main__ import EXIT_REJECTED
from service.__main__ import main as mixdim
from service.jobs.launcher import JobState
from service.jobs.local import LocalLauncher
from tests.service.api.proving import free_port
from tests.service.api.served import wait_for

JOB = {"verb": "prepare", "method": "synthetic", "output": "d", "options": {"rows": 3000000}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """One that is ready; its process, its address, and what it says."""
    port, log = free_port(), tmp_path / "log.txt"
    command = [sys.executable, "-m", "service", "serve", "--home", str(tmp_path / "home")]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stderr=file, stdout=file, text=True
        )
    base = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return httpx.get(f"{base}/readyz").status_code == 200
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            return False

    wait_for(is_ready, 120)
    yield process, base, log
    process.kill()
    process.wait()


def token(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert mixdim(["token", *arguments]) == 0
    return capsys.readouterr().out.strip()


@pytest.mark.slow
def test_a_service_serves_a_home_until_it_is_told_to_stop_and_its_jobs_go_on(
    service: tuple[subprocess.Popen[str], str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    process, base, log = service
    home = ["--home", str(log.parent / "home")]
    first = re.search(r"mixdim_[\w-]{43}", log.read_text())
    assert first is not None
    assert ask(base, first[0], "GET", "/me").json() == {"name": "admin", "role": "admin"}

    made = json.loads(token(capsys, "create", *home, "--name", "ann", "--days", "1", "--json"))
    secret = token(capsys, "create", *home, "--name", "bob", "--role", "submitter")
    assert ask(base, made["secret"], "GET", "/me").json() == {"name": "ann", "role": "viewer"}
    token(capsys, "revoke", made["id"], *home)
    assert ask(base, made["secret"], "GET", "/me").status_code == 401
    listed = json.loads(token(capsys, "list", *home, "--json"))
    assert {each["name"] for each in listed} == {"admin", "ann", "bob"}
    assert secret not in json.dumps(listed)

    assert mixdim(["serve", *home, "--port", "1"]) == EXIT_REJECTED
    assert "is served by another process" in capsys.readouterr().err

    job = ask(base, secret, "POST", "/jobs", json=JOB).json()["id"]
    wait_for(lambda: ask(base, secret, "GET", f"/jobs/{job}").json()["state"] == "running", 60)
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    jobs = LocalLauncher(log.parent / "home" / "jobs")
    assert jobs.status(job).state is JobState.RUNNING
    jobs.cancel(job)
    wait_for(lambda: jobs.status(job).state is JobState.CANCELLED, 60)


def ask(base: str, secret: str, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.request(method, f"{base}/api/v1{path}", headers=headers, timeout=60, **more)


def test_a_token_needs_a_name_and_a_life(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = ["--home", str(tmp_path / "home")]
    for flags, message in (
        (["--name", "Ann/.."], "expected lower-case letters"),
        (["--name", "ann", "--days", "0"], "days=0.0, expected more than 0"),
        (["--name", "ann", "--days", "nan"], "days=nan, expected more than 0"),  # would be for ever
    ):
        assert mixdim(["token", "create", *home, *flags]) == EXIT_REJECTED
        assert message in capsys.readouterr().err
    assert mixdim(["token", "revoke", "0" * 16, *home]) == EXIT_REJECTED
    assert "there is no token" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "MIXDIM_DATABASE is no address, expected sqlite:///FILE or postgresql://"),
        ("postgresql://me:secret@127.0.0.1:1/x", "Connection refused"),
        ("sqlite:///{home}/no-database", "file is not a database; check MIXDIM_DATABASE"),
        ("sqlite:///{home}/newer.db", "a newer MixDim has written them: install it"),
    ],
)
def test_records_that_cannot_be_opened_are_told_in_a_line(
    address: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "no-database").write_text("hello\n")
    with contextlib.closing(sqlite3.connect(tmp_path / "newer.db")) as newer, newer:
        newer.execute("CREATE TABLE alembic_version AS SELECT '9999' AS version_num")
    monkeypatch.setenv("MIXDIM_DATABASE", address.format(home=tmp_path))
    assert mixdim(["token", "list", "--home", str(tmp_path)]) == EXIT_REJECTED
    said = capsys.readouterr().err
    assert message in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("option", "message"),
    [("slurm.partition=x", "expected SCHEDULER.NAME=VALUE"), ("local.a=b", "has no options")],
)
def test_an_option_of_no_scheduler_is_refused(
    option: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ["--home", str(tmp_path / "home"), "--scheduler-options", option]
    assert mixdim(["serve", *flags]) == EXIT_REJECTED
    assert message in capsys.readouterr().err
