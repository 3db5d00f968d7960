"""A real model server, and people who ask it without a pause: good rows, bad ones, too many."""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.real_prometheus import wait_for
from tests.free_ports import free_ports

MOST: Final = 64
"""Rows that may wait, which two requests of `ASKED` are more than."""
ASKED: Final = 40
FLAGS: Final = ("--max-rows", MOST, "--max-waiting-rows", MOST, "--max-wait-ms", 200)


@dataclass(frozen=True, kw_only=True)
class ModelServer:
    """A model server that runs."""

    port: int
    path: Path
    """Link to the artifact that it serves."""
    process: "subprocess.Popen[bytes]"
    statuses: set[int] = field(default_factory=set)
    """What was answered so far."""

    def ask(self, rows: Sequence[Any]) -> int:
        """Have rows scored; the status of the answer."""
        body = json.dumps({"rows": list(rows)}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/predict", data=body, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError:
            status = 0
        self.statuses.add(status)
        return status

    def serve(self, artifact: Path) -> None:
        """Have its link lead to another artifact."""
        draft = self.path.with_suffix(".draft")
        draft.symlink_to(artifact)
        draft.replace(self.path)


@contextmanager
def model_server(folder: Path, artifact: Path, rows: Sequence[Any]) -> Iterator[ModelServer]:
    """Serve an artifact, and ask for predictions, until left.

    Args:
        folder: Gets the link, and the file by which Prometheus finds the server.
        artifact: Made by ``mixdim export``.
        rows: That it can score, `ASKED` of them at least.
    """
    port, path = free_ports(), folder / "current"
    path.symlink_to(artifact)
    (folder / "models").mkdir()
    targets = [{"targets": [f"127.0.0.1:{port}"]}]
    (folder / "models" / "model.yml").write_text(yaml.safe_dump(targets))
    command = [sys.executable, "-m", "service", "serve-model", path, "--port", port, *FLAGS]
    process = subprocess.Popen([*map(str, command), "--poll-seconds", "0.5", "--threads", "1"])
    server = ModelServer(port=port, path=path, process=process)
    over = threading.Event()
    asking = threading.Thread(target=_ask, args=(server, rows[:ASKED], over))
    try:
        wait_for(lambda: server.ask(rows[:1]) == 200, 120)
        asking.start()
        yield server
    finally:
        over.set()
        if asking.ident is not None:
            asking.join()
        process.terminate()
        process.wait(60)


def _ask(server: ModelServer, rows: Sequence[Any], over: threading.Event) -> None:
    """Three at a time, of which two have to come again; then a request with bad rows alone.

    Which one of the three is scored is left to chance: either way a tenth of all rows is bad.
    """
    bad = [{**rows[0], "price": "dear"}, *({**row, "word": "never seen"} for row in rows[1:])]
    with ThreadPoolExecutor(3) as people:
        while not over.is_set():
            list(people.map(server.ask, (rows, bad, rows[1:])))
            server.ask([{**row, "price": "dear"} for row in rows[:8]])
            time.sleep(0.2)
