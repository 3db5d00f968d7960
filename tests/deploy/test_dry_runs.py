"""Dry runs equal the golden files; ``python -m tests.deploy.dry_runs`` writes them anew."""

import json
from typing import Any

import pytest

from tests.deploy.dry_runs import GOLDEN, SCHEDULERS, golden


@pytest.fixture(params=SCHEDULERS)
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def command_of(container: dict[str, Any]) -> str:
    return str(container["command"][-1])


def test_dry_runs_equal_the_golden_files(scheduler: str) -> None:
    assert golden(scheduler) == json.loads((GOLDEN / f"{scheduler}.json").read_text())


def test_users_words_reach_every_shell_as_they_were_given(scheduler: str) -> None:
    handed = json.dumps(golden(scheduler)["train"]).replace("\"'\\\"'\\\"'", "'")
    assert handed.count("--sizing") == handed.count("$HOME/s.json")
    assert "$$HOME" not in handed


def test_one_pod_of_an_elastic_job_suffices() -> None:
    tasks = golden("kubernetes")["train"]["spec"]["tasks"]
    assert [task["minAvailable"] for task in tasks] == [1, 0], "one of two machines suffices"
    ranks = [task["template"]["spec"]["containers"][0] for task in tasks]
    assert all("--nnodes=1:2 --nproc-per-node=8" in command_of(rank) for rank in ranks)
    assert all({"containerPort": 9407, "name": "metrics-7"} in rank["ports"] for rank in ranks)


def test_containers_of_one_process_run_the_verb_without_a_shell() -> None:
    (container,) = golden("local_docker")["prepare"]
    words = ["criteo", "/raw/my day.gz", "--min-count", "10", "--output", "/data"]
    assert container["command"] == ["mixdim", "prepare", *words]
    targets = [mount["Target"] for mount in container["kwargs"]["mounts"]]
    assert targets == ["/raw", "/data"]
