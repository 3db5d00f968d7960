"""The service in front of a real Slurm: jobs by HTTP, which outlive its death and Slurm's silence.

All jobs are tiny, on made-up data, and run on the two nodes of the throw-away cluster.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.slurm.cluster import MARKS, Cluster, scores

PORT = 8080
"""Of the login node, which nobody else listens at."""
TRAIN = {
    **{"verb": "train", "preset": "smoke", "data": "data", "sizing": "sizing", "nodes": 2},
    "options": {
        **{"seed": 3, "epochs": 50, "batch-size": 32, "checkpoint-every": 10, "max-steps": 60},
        "matmul": "mkl",  # two runs are compared to the last digit: none may choose by its speed
    },
}

pytestmark = MARKS


class Served:
    """A service on the login node, and a person who may use it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.home = cluster.folder / "served"
        self.token = ""
        self._process = ExitStack()
        self._log = cluster.folder / "serve.log"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        asked = ("--schedulers", "slurm", "local", "--scheduler-options", "slurm.partition=batch")
        line = ("mixdim", "serve", "--home", str(self.home), "--port", str(PORT), *asked)
        self._process.enter_context(self.cluster.running(self._log, *line))
        self.cluster.wait_for(self._is_ready, self._log.read_text)
        if not self.token:
            found = re.search(r"shown this once: (\S+)", self._log.read_text())
            assert found
            self.token = found[1]

    def kill(self) -> None:
        """End it as a machine ends that loses its power."""
        self._process.close()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        address = f"http://127.0.0.1:{PORT}/api/v1{path}"
        with self.cluster.network():
            answer = httpx.request(method, address, headers=headers, timeout=60, **more)
        assert answer.is_success, answer.text
        return answer

    def get(self, path: str) -> Any:
        return self.ask("GET", path).json()

    def submit(self, **body: Any) -> str:
        key = {"Idempotency-Key": str(body.get("output"))}
        return str(self.ask("POST", "/jobs", json=body, headers=key).json()["id"])

    def log(self, job: str) -> str:
        return self.ask("GET", f"/jobs/{job}/logs").text

    def wait(self, job: str, state: str) -> Any:
        def has_come() -> bool:
            found = self.get(f"/jobs/{job}")
            assert found["state"] in (state, "queued", "starting", "running", "cancelling"), found[
                "message"
            ] + self.log(job)
            return bool(found["state"] == state)

        self.cluster.wait_for(has_come, lambda: self.log(job) + self._log.read_text())
        return self.get(f"/jobs/{job}")

    def freeze(self, run: str, job: str) -> list[int]:
        """Stop a training in its middle."""
        return self.cluster.freeze_behind_a_checkpoint(
            self.home / "runs" / run, lambda: self.log(job)
        )

    def _is_ready(self) -> bool:
        try:
            with self.cluster.network():
                return httpx.get(f"http://127.0.0.1:{PORT}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def served(cluster: Cluster) -> Iterator[Served]:
    """A service that has data and a sizing, made on this machine and on the cluster."""
    served = Served(cluster)
    served.start()
    try:
        rows = {"options": {"rows": 3000}, "scheduler": "local"}
        served.wait(
            served.submit(verb="prepare", method="synthetic", output="data", **rows), "succeeded"
        )
        fields = {"dim": 8, "fields": ["C1", "C9", "C13", "C20"]}
        size = {"verb": "size", "data": "data", "scheduler": "slurm", "options": fields}
        served.wait(served.submit(**size, output="sizing"), "succeeded")
        yield served
    finally:
        served.kill()


@pytest.fixture(scope="module")
def undisturbed(served: Served) -> str:
    """A training on two nodes that nobody touches: what the first scheduler does by default."""
    job = served.submit(**TRAIN, output="undisturbed")
    assert served.wait(job, "succeeded")["scheduler"] == "slurm"
    return job


def test_jobs_lead_from_made_up_lines_to_a_run_on_two_nodes(
    served: Served, undisturbed: str
) -> None:
    assert served.cluster.accounted(undisturbed, "State,NNodes") == ["COMPLETED|2"]
    assert served.get("/runs/undisturbed")["ranks"] == 2
    assert "step 60/60" in served.log(undisturbed)
    happened = [event["event"] for event in served.get(f"/jobs/{undisturbed}/events")]
    assert happened == ["submit", "start", "run", "succeed"]
    steps = served.get("/runs/undisturbed/metrics?kind=train")["items"]
    assert steps[-1]["step"] == 60


def test_prometheus_is_led_to_the_ranks_on_their_nodes(served: Served) -> None:
    job = served.submit(**TRAIN, output="scraped")
    served.cluster.wait_for(lambda: served.get("/discovery"), lambda: served.log(job))
    groups = served.get("/discovery")
    ranks = {group["labels"]["rank"]: group["targets"] for group in groups}
    assert ranks == {"0": ["n1:9400"], "1": ["n2:9400"]}
    assert {group["labels"]["run"] for group in groups} == {"scraped"}
    for rank, (target,) in ranks.items():
        page = _page(served, job, target)
        assert f'mixdim_table_bytes{{rank="{rank}"' in page
    served.wait(job, "succeeded")
    assert served.get("/discovery") == []


def _page(served: Served, job: str, target: str) -> str:
    """What a rank serves, from when it has planned its tables on."""
    host, _, port = target.partition(":")
    address = f"{served.cluster.run('getent', 'hosts', host).split()[0]}:{port}"
    found: list[str] = []

    def is_there() -> bool:
        try:
            with served.cluster.network():
                found[:] = [httpx.get(f"http://{address}/metrics").text]
        except httpx.TransportError:
            return False
        return "mixdim_table_bytes{" in found[0]

    served.cluster.wait_for(is_there, lambda: served.log(job))
    return found[0]


def test_a_training_outlives_the_service_that_began_it_and_is_found_again(
    served: Served, undisturbed: str
) -> None:
    job = served.submit(**TRAIN, output="survivor")
    ranks = served.freeze("survivor", job)
    before = served.get(f"/jobs/{job}")
    assert before["progress"]["step"] >= 10
    served.kill()
    served.start()
    again = served.get(f"/jobs/{job}")
    assert (again["state"], again["handle"]) == ("running", before["handle"])
    assert served.submit(**TRAIN, output="survivor") == job
    for rank in ranks:
        os.kill(rank, signal.SIGCONT)
    served.wait(job, "succeeded")
    assert served.cluster.accounted(job, "State") == ["COMPLETED"]
    runs = served.home / "runs"
    assert scores(runs / "survivor") == scores(runs / "undisturbed")


def test_a_cancelled_training_has_a_checkpoint_and_its_retry_ends_like_the_undisturbed(
    served: Served, undisturbed: str
) -> None:
    job = served.submit(**TRAIN, output="cancelled")
    served.freeze("cancelled", job)
    served.ask("POST", f"/jobs/{job}/cancel")
    served.wait(job, "cancelled")
    assert served.cluster.accounted(job, "State") == ["CANCELLED by 0"]
    served.ask("POST", f"/jobs/{job}/retry")
    served.cluster.wait_for(
        lambda: served.get(f"/jobs/{job}")["state"] == "succeeded", lambda: served.log(job)
    )
    assert served.cluster.accounted(f"{job}-2", "State") == ["COMPLETED"]
    runs = served.home / "runs"
    assert scores(runs / "cancelled") == scores(runs / "undisturbed")


def test_while_slurm_does_not_answer_no_job_is_lost_or_doubled(served: Served) -> None:
    running = served.submit(**TRAIN, output="patient")
    ranks = served.freeze("patient", running)
    served.cluster.script("control", "stop")
    size = {"verb": "size", "data": "data", "scheduler": "slurm", "options": {"dim": 8}}
    late = served.submit(**size, output="late")
    time.sleep(25)  # what Slurm's commands try for is 9 and 18 seconds
    assert served.get(f"/jobs/{running}")["state"] == "running"
    assert served.get(f"/jobs/{late}")["state"] in ("queued", "starting")
    served.cluster.script("control", "start")
    for rank in ranks:
        os.kill(rank, signal.SIGCONT)
    for job in (running, late):
        served.wait(job, "succeeded")
        assert served.cluster.accounted(job, "State") == ["COMPLETED"]


def test_kills_while_jobs_are_handed_over_lose_and_double_none(served: Served) -> None:
    size = {"verb": "size", "data": "data", "scheduler": "slurm", "options": {"dim": 8}}
    jobs = []
    for number in range(3):
        jobs += [served.submit(**size, output=f"kill-{number}-{each}") for each in range(2)]
        time.sleep(0.04 * number)
        served.kill()
        served.start()
    for job in jobs:
        served.wait(job, "succeeded")
        assert served.cluster.accounted(job, "State") == ["COMPLETED"]
