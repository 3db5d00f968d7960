"""The pods of a Job, run the way a kubelet would: their commands, names, addresses and signals.

There is no cluster. Each pod is a host name and an address of its own in a network that nothing
else can reach; what Kubernetes would fill in is filled in here.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.kubernetes import manifest
from deploy.resources import find_resource
from service.sizing import write_sizing
from service.sizing_request import SizingRequest, size_dataset
from tests.datasets import write_dataset
from tests.kubelet import expanded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.dist,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"),
        reason="host names and addresses of its own need root, unshare and ip (iproute2)",
    ),
]

ROOT = Path(__file__).parents[2]
NODES = 2
PATIENCE_SECONDS = 900
"""Ranks load torch at the same time, on however few cores there are."""
ENDS = {"done": 0, "refused": 2, "stopped": 143}
START = """
ip link set lo up
for pod in $(seq 0 $(($1 - 1))); do ip addr add 127.0.1.1$pod/8 dev lo; done
mount --bind $2 /etc/hosts
shift 2
for pod in "$@"; do unshare --uts sh -c "$pod" & done
wait
"""
"""Arguments: number of pods, file of hosts, and one line of shell a pod."""


class Pods:
    """The pods of one start of a job.

    Args:
        objects: The job's manifest.
        folder: Gets the output and the exit code of every pod.
        pending: Pods for which there is no node at first.
    """

    def __init__(
        self, objects: Sequence[Mapping[str, Any]], folder: Path, pending: Sequence[int] = ()
    ) -> None:
        (job,) = (thing for thing in objects if thing["kind"] == "Job")
        (self._container,) = job["spec"]["template"]["spec"]["containers"]
        self._name = job["metadata"]["name"]
        self._folder = folder
        folder.mkdir()
        for pod in set(range(NODES)) - {*pending}:
            self.schedule(pod)
        hosts = [f"127.0.1.1{pod} {self._name}-{pod}.{self._name}" for pod in range(NODES)]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        script = ["sh", "-c", START, "start", str(NODES), str(folder / "hosts")]
        isolated = ["unshare", "--net", "--mount", "--propagation", "private", *script]
        self._process = subprocess.Popen(
            [*isolated, *map(self._pod, range(NODES))], start_new_session=True
        )

    def _pod(self, number: int) -> str:
        """A line of shell that is a pod: its name, its output, its pid and its exit code."""
        place = self._folder / str(number)
        environment = {
            "NODE_RANK": str(number),
            "POD_IP": f"127.0.1.1{number}",
            **{item["name"]: item["value"] for item in self._container["env"] if "value" in item},
        }
        given = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "PYTHONPATH": str(ROOT)}
        words = expanded(self._container["command"] + self._container["args"], environment)
        place.with_suffix(".json").write_text(json.dumps([{**given, **environment}, words]))
        code = (
            f"import json, os; e, w = json.load(open({str(place) + '.json'!r}));"
            f"open({str(place) + '.pid'!r}, 'w').write(str(os.getpid()));"
            "os.execvpe(w[0], w, e)"
        )
        run = f'{sys.executable} -c "{code}" > {place}.log 2>&1'
        pending = f"until [ -e {place}.node ]; do sleep 0.1; done"
        return f"hostname {self._name}-{number}; {pending}; {run}; echo $? > {place}.exit"

    def schedule(self, number: int) -> None:
        """Give a pod its node."""
        (self._folder / f"{number}.node").touch()

    def tell(self, number: int) -> None:
        """What a kubelet does to a pod that is evicted."""
        os.kill(int((self._folder / f"{number}.pid").read_text()), signal.SIGTERM)

    def log(self, number: int) -> str:
        return (self._folder / f"{number}.log").read_text()

    def exit_codes(self) -> list[int]:
        """Wait until all have ended."""
        try:
            self._process.wait(timeout=PATIENCE_SECONDS)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        return [int((self._folder / f"{pod}.exit").read_text()) for pod in range(NODES)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    write_dataset(folder / "data")
    write_sizing(size_dataset(folder / "data", SizingRequest()), folder / "sizing.json")
    return folder


def training(
    home: Path, run: str, *flags: str, min_nodes: int | None = None
) -> list[dict[str, Any]]:
    places = ("--data", f"{home}/data", "--sizing", f"{home}/sizing.json")
    command = ("train", "smoke", *places, "--output", f"{home}/{run}", *flags)
    resource = find_resource("cpu-small")
    return manifest(command, name="a", nodes=NODES, min_nodes=min_nodes, resource=resource)


def wait_for_steps(run: Path, world_size: int, pods: Pods) -> None:
    """Wait until so many ranks have told of a step."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    record, metrics, before = run / "run.json", run / "metrics.jsonl", None
    while True:
        if record.exists() and json.loads(record.read_text())["world_size"] == world_size:
            lines = metrics.read_text() if metrics.exists() else ""
            before = lines if before is None else before
            if len(lines) > len(before):
                return
        assert time.monotonic() < deadline, pods.log(0) + pods.log(1)
        time.sleep(0.05)


def test_two_pods_find_each_other_and_train_one_model(home: Path, tmp_path: Path) -> None:
    pods = Pods(training(home, "done", "--max-steps", "3", "--batch-size", "32"), tmp_path / "a")
    assert pods.exit_codes() == [ENDS["done"]] * NODES, pods.log(0) + pods.log(1)
    assert json.loads((home / "done" / "run.json").read_text())["world_size"] == NODES
    assert json.loads((home / "done" / "result.json").read_text())["steps"] == 3


def test_input_that_is_refused_is_told_apart_from_a_failure(home: Path, tmp_path: Path) -> None:
    pods = Pods(training(home, "refused", "--batch-size", "0"), tmp_path / "a")
    codes = pods.exit_codes()
    assert ENDS["refused"] in codes, pods.log(0) + pods.log(1)  # one is enough for the Job to fail
    assert ENDS["done"] not in codes


def test_a_pod_that_is_evicted_saves_all_and_its_successors_go_on(
    home: Path, tmp_path: Path
) -> None:
    long = ("--max-steps", "200", "--epochs", "20", "--patience", "20", "--batch-size", "8")
    objects = training(home, "evicted", *long)
    pods = Pods(objects, tmp_path / "a")
    wait_for_steps(home / "evicted", NODES, pods)
    pods.tell(1)
    assert pods.exit_codes() == [ENDS["stopped"]] * NODES, pods.log(0) + pods.log(1)
    saved = max((home / "evicted" / "checkpoints").glob("step-*"))
    again = Pods(objects, tmp_path / "b")
    assert again.exit_codes() == [ENDS["done"]] * NODES, again.log(0) + again.log(1)
    assert json.loads((home / "evicted" / "result.json").read_text())["steps"] == 200
    first = re.search(r"^step (\d+)/", again.log(0) + again.log(1), re.MULTILINE)
    assert first
    assert int(first[1]) > int(saved.name.removeprefix("step-"))


def test_a_pod_that_comes_late_joins_a_training_that_began_without_it(
    home: Path, tmp_path: Path
) -> None:
    endless = ("--max-steps", "1000000", "--epochs", "100000", "--patience", "100000")
    objects = training(home, "late", *endless, "--global-batch-size", "8", min_nodes=1)
    pods = Pods(objects, tmp_path / "a", pending=[1])
    wait_for_steps(home / "late", 1, pods)
    pods.schedule(1)
    wait_for_steps(home / "late", NODES, pods)
    pods.tell(1)
    assert pods.exit_codes() == [ENDS["stopped"]] * NODES, pods.log(0) + pods.log(1)
    steps = [int(found) for found in re.findall(r"^step (\d+)/", pods.log(0), re.MULTILINE)]
    assert steps == sorted(set(steps))  # it went on from its checkpoint
