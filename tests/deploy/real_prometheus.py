"""A real service and a real Prometheus beside it, on this machine and nowhere else."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.monitored import PROMETHEUS, ROOT
from tests.free_ports import free_ports

WINDOW = "15s"
"""What windows of minutes become, so that an alert fires within seconds."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A service that runs."""

    port: int
    token: str

    def ask(self, path: str, body: object = None) -> Any:
        """Ask the service for something; with a body, to do something."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        request = urllib.request.Request(address, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error

    def end_jobs(self) -> None:
        """Cancel what runs, and wait until nothing does."""
        states = ("queued", "starting", "running", "cancelling")
        for state in states[:3]:
            for job in self.ask(f"jobs?state={state}")["items"]:
                self.ask(f"jobs/{job['id']}/cancel", {})
        wait_for(lambda: not any(self.ask(f"jobs?state={s}")["items"] for s in states), 90)


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """A Prometheus that runs."""

    port: int

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask its API."""
        query = urllib.parse.urlencode(parameters)
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, query: str) -> list[dict[str, Any]]:
        """Series of a query, those without a number left out."""
        found = self.ask("query", query=query)["result"]
        return [series for series in found if series["value"][1] != "NaN"]

    def firing(self, alert: str, **labels: str) -> bool:
        """Whether an alert fires."""
        chosen = "".join(f', {name}="{value}"' for name, value in labels.items())
        return bool(self.query(f'ALERTS{{alertname="{alert}", alertstate="firing"{chosen}}}'))


@contextmanager
def service(home: Path) -> Iterator[Served]:
    """Serve a home until left; its jobs are ended."""
    port, ranks = free_ports(), free_ports(12)
    arguments = ["--home", home, "--port", port, "--metrics-ports", ranks, ranks + 11]
    log = home.parent / "service.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve", *map(str, arguments)], stderr=file, cwd=ROOT
        )
    try:
        wait_for(lambda: "shown this once" in log.read_text() and _answers(port, "healthz"), 60)
        token = re.search(r"shown this once: (\S+)", log.read_text())
        assert token
        served = Served(port=port, token=token.group(1))
        yield served
        served.end_jobs()
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def prometheus(folder: Path, served: Served) -> Iterator[Prometheus]:
    """Run Prometheus with the project's configuration, its times made short."""
    port = free_ports()
    (folder / "token").write_text(served.token)
    text = (PROMETHEUS / "prometheus.yml").read_text()
    for address in ("service:8080", "127.0.0.1:8080"):
        text = text.replace(address, f"127.0.0.1:{served.port}")
    config = yaml.safe_load(text.replace("/etc/prometheus/secrets/token", str(folder / "token")))
    config["global"] |= {
        "scrape_interval": "1s",
        "evaluation_interval": "1s",
        "scrape_timeout": "1s",
    }
    config["scrape_configs"][0]["http_sd_configs"][0]["refresh_interval"] = "1s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    for name in config["rule_files"]:
        (folder / name).write_text(shortened((PROMETHEUS / name).read_text()))
    log = (folder / "prometheus.log").open("w")
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=log,
    )
    try:
        wait_for(lambda: _answers(port, "-/ready"), 60)
        yield Prometheus(port=port)
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def shortened(rules: str) -> str:
    """Rules whose minutes are seconds; what they ask is the same."""
    rules = re.sub(r"\[(5m|10m|1h)\]", f"[{WINDOW}]", rules)
    rules = re.sub(r"for: \d+m", "for: 1s", rules).replace("offset 10m", "offset 5s")
    return rules.replace("mixdim_train_idle_seconds > 300", "mixdim_train_idle_seconds > 8")


def wait_for(is_so: Callable[[], object], seconds: float) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: If it takes longer.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.5)


def process_that_listens(port: int) -> int:
    """Id of the process that listens on a port of this machine."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    wanted = {
        f"socket:[{fields[9]}]"
        for fields in (line.split() for line in lines)
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A"
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(file.readlink()) in wanted for file in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError(f"nobody listens on port {port}")


@contextmanager
def stopped(port: int) -> Iterator[None]:
    """Stop the process that listens on a port, and let it go on."""
    process = process_that_listens(port)
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5):
            return True
    except OSError:
        return False
