"""A service in this process for tests: real records, real HTTP, jobs that are a line of shell."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import Engine

from service.api.accounts import Role
from service.api.app import build, guarded
from service.api.config import Limits, ServiceConfig
from service.api.database import connect, upgrade
from service.api.service import Service
from service.jobs.launcher import Job, Launcher
from service.jobs.local import LocalLauncher

MANY = Limits(requests_per_second=1e6, burst=10**6, running_per_user=100, local_jobs=100)
PREPARE = {"verb": "prepare", "method": "synthetic", "options": {"rows": 100}}
"""A job that needs nothing; its command is replaced by the tests' own."""


@dataclass(frozen=True)
class Client:
    """One user of a service."""

    http: httpx.Client
    service: Service
    secrets: Mapping[str, str]

    def call(self, method: str, path: str, role: str = "submitter", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secrets[role]}", **more.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **more)

    def get(self, path: str, role: str = "submitter") -> Any:
        answer = self.call("GET", f"/api/v1{path}", role)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def submit(self, role: str = "submitter", key: str | None = None, **changes: Any) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        body = {**PREPARE, **changes}
        return self.call("POST", "/api/v1/jobs", role, json=body, headers=headers)

    def wait(self, job: str, *states: str, seconds: float = 20) -> Any:
        wanted = states or ("succeeded", "failed", "cancelled")
        found: dict[str, Any] = {}

        def has_come() -> bool:
            found.update(self.get(f"/jobs/{job}"))
            return found["state"] in wanted

        wait_for(has_come, seconds)
        return found


@contextlib.contextmanager
def serving(
    home: Path,
    script: str | Callable[[Job], list[str]] = "true",
    *,
    engine: Engine | None = None,
    launcher: Launcher | None = None,
    **settings: Any,
) -> Iterator[Client]:
    """A service whose jobs are a line of shell, with a token of every role."""
    command = script if callable(script) else lambda job: ["/bin/sh", "-c", script]
    config = replace(
        ServiceConfig(home=home, poll_seconds=0.05, limits=MANY), grace_seconds=5.0, **settings
    )
    records = engine or connect(f"sqlite:///{home.parent / (home.name + '.db')}")
    upgrade(records)
    local = launcher or LocalLauncher(home / "jobs", command=command, grace_seconds=5.0)
    app = build(config, records, {"local": local})
    service: Service = app.state.service
    secrets = {role.value: service.accounts.create(role.value, role)[1] for role in Role}
    server = uvicorn.Server(
        uvicorn.Config(
            guarded(app), port=0, log_level="error", access_log=False, server_header=False
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
        try:
            yield Client(http=http, service=service, secrets=secrets)
        finally:
            http.close()
            server.should_exit = True
            thread.join()
            if engine is None:
                records.dispose()


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)
