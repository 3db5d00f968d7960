"""What the two proofs share: the service as a process, records to choose, and what must hold."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from service.api.accounts import Accounts, Role
from service.api.database import DATABASE, connect, upgrade
from service.api.jobs import Jobs
from service.api.records import Filter, Record
from service.api.states import FINAL, State
from service.jobs import keeper
from tests.service.api.postgres import server as postgres

RAN = "ran"
ALL = 1_000_000


@dataclass
class Proof:
    """A service as a process of its own, and its records."""

    home: Path
    url: str
    script: str
    running: int
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    seconds_to_ready: list[float] = field(default_factory=list)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.port = self.port or free_port()
        command = [sys.executable, "-m", "tests.service.api.stub_server", str(self.home)]
        with (self.home.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.port), self.script, str(self.running)],
                env={**os.environ, DATABASE: self.url},
                stdout=log,
                stderr=log,
            )
        begun = time.monotonic()
        while not self._is_ready():
            assert self.process.poll() is None, (self.home.parent / "serve.log").read_text()[-2000:]
            assert time.monotonic() - begun < 600
            time.sleep(0.1)
        self.seconds_to_ready.append(time.monotonic() - begun)

    def stop(self, *, kill: bool) -> None:
        assert self.process is not None
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait()

    def tokens(self, number: int) -> list[str]:
        engine = connect(self.url)
        upgrade(engine)
        accounts = Accounts(engine)
        made = [accounts.create(f"user-{n}", Role.SUBMITTER)[1] for n in range(number)]
        engine.dispose()
        return made

    def records(self) -> list[Record]:
        engine = connect(self.url)
        found = Jobs(engine, 1).page(Filter(), ALL)
        engine.dispose()
        return found

    def wait_for_all(self, seconds: float) -> list[Record]:
        deadline = time.monotonic() + seconds
        while any(job.state not in FINAL for job in self.records()):
            assert time.monotonic() < deadline, Counter(job.state for job in self.records())
            time.sleep(0.5)
        return self.records()

    def _is_ready(self) -> bool:
        try:
            return self.http.get(f"{self.base}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def proving(folder: Path, database: str, script: str, running: int) -> Iterator[Proof]:
    """A service on new records, stopped at the end; its jobs run on until theirs."""
    home = folder / "home"
    home.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        sqlite = f"sqlite:///{home / 'mixdim.db'}"
        url = stack.enter_context(postgres()) if database == "postgres" else sqlite
        proof = Proof(home=home, url=url, script=script, running=running)
        try:
            yield proof
        finally:
            if proof.process is not None and proof.process.poll() is None:
                proof.stop(kill=False)


def judged(proof: Proof, acknowledged: dict[str, str]) -> dict[str, Any]:
    """Hold records, launcher and what clients were told against each other.

    Args:
        proof: The service, all of whose jobs have ended.
        acknowledged: Id that a client was told, by idempotency key.
    """
    records = {job.idempotency_key: job for job in proof.records()}
    lost = [key for key, job in acknowledged.items() if records[key].id != job]
    doubled, wrong = [], []
    for job in records.values():
        folder = proof.home / "jobs" / job.key
        starts = len((folder / RAN).read_text().splitlines()) if (folder / RAN).exists() else 0
        if starts > 1:
            doubled.append(job.id)
        if job.state is State.SUCCEEDED and starts != 1:
            wrong.append(job.id)
        ended = folder / keeper.EXIT_FILE
        if ended.exists():
            said = json.loads(ended.read_text())
            if (said["exit_code"] == 0) != (job.state is State.SUCCEEDED):
                wrong.append(job.id)
        elif job.state is not State.CANCELLED or starts:
            wrong.append(job.id)  # only what never began has no end
    jobs = [path for path in (proof.home / "jobs").iterdir() if (path / RAN).exists()]
    unknown = {path.name for path in jobs} - {job.key for job in records.values()}
    return {
        "jobs": len(records),
        "states": dict(Counter(job.state.value for job in records.values())),
        "lost": len(lost),
        "doubled": len(doubled),
        "unknown": len(unknown),
        "wrong": len(wrong),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
