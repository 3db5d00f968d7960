"""A service of its own for the tests of the page: started, filled with made-up data, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.free_ports import free_ports

START_SECONDS = 240.0
METRICS_PORTS, NUM_METRICS_PORTS = 20_000, 40
FINAL = ("succeeded", "failed", "cancelled")


@dataclass
class Served:
    """A running service."""

    address: str
    home: Path
    tokens: dict[str, str] = field(default_factory=dict)
    """Of users by name."""

    def let_in(self, name: str, role: str) -> str:
        """Make a token for a user."""
        command = ("token", "create", "--name", name, "--role", role, "--home", str(self.home))
        done = subprocess.run(
            [sys.executable, "-m", "service", *command], capture_output=True, text=True, check=True
        )
        self.tokens[name] = done.stdout.strip()
        return self.tokens[name]

    def call(self, path: str, body: Mapping[str, Any] | None = None, *, user: str) -> Any:
        """Ask the API; a request with a body is a POST."""
        answer = httpx.request(
            "GET" if body is None else "POST",
            f"{self.address}/api/v1/{path}",
            json=body or None,
            headers={"Authorization": f"Bearer {self.tokens[user]}"},
            timeout=60,
        )
        assert answer.is_success, answer.text
        return answer.json()

    def submit(self, user: str, **request: Any) -> str:
        """Submit a job."""
        return str(self.call("jobs", request, user=user)["id"])

    def wait(self, job: str, *states: str, user: str, seconds: float = 600) -> dict[str, Any]:
        """Wait until a job is in one of some states, or has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found: dict[str, Any] = self.call(f"jobs/{job}", user=user)
            if found["state"] in (states or FINAL):
                return found
            assert found["state"] not in FINAL, found
            time.sleep(0.3)
        raise TimeoutError(f"job {job} is {found['state']}, expected {states or FINAL}")

    def wait_for_step(self, job: str, step: int, *, user: str) -> None:
        """Wait until a training has come so far."""
        end = time.monotonic() + 600
        while time.monotonic() < end:
            progress = self.call(f"jobs/{job}", user=user)["progress"]
            if progress and progress["step"] >= step:
                return
            time.sleep(0.3)
        raise TimeoutError(f"job {job} has not come to step {step}: {progress}")

    def run(self, user: str, **request: Any) -> dict[str, Any]:
        """Submit a job and wait until it has succeeded."""
        found = self.wait(self.submit(user, **request), user=user)
        assert found["state"] == "succeeded", found
        return found


@contextmanager
def served(home: Path, *flags: str) -> Iterator[Served]:
    """Serve a folder on a free port of this machine."""
    # Below those that the system gives to whoever asks: jobs take theirs minutes later.
    first = METRICS_PORTS + os.getpid() % 250 * NUM_METRICS_PORTS
    ports = ("--port", free_ports(), "--metrics-ports", first, first + NUM_METRICS_PORTS - 1)
    command = ["serve", "--home", str(home), *map(str, ports), *flags]
    with (home.parent / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", *command],
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        found = Served(f"http://127.0.0.1:{ports[1]}", home)
        _await(found.address, process, home.parent / "serve.log")
        yield found
        _end_jobs(found)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{address}/readyz", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError(log.read_text())


def _end_jobs(service: Served) -> None:
    """Cancel what still runs: jobs outlive their service."""
    service.let_in("admin", "admin")
    for job in service.call("jobs?limit=200", user="admin")["items"]:
        if job["state"] not in FINAL:
            if job["state"] != "cancelling":
                service.call(f"jobs/{job['id']}/cancel", {}, user="admin")
            service.wait(job["id"], user="admin")
