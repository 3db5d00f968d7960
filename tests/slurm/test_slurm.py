"""A real Slurm of two nodes: jobs run, are watched, cancelled, lost with their machine, come back.

``make test-slurm`` installs what it takes. All jobs are tiny, on made-up data.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("cluster.sh")
COMMANDS = Path(sys.executable).parent
NEEDED = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "unshare")
MISSING = [name for name in NEEDED if not shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin")]
SECONDS = 600
"""How long a job may take before something is wrong."""
TRAIN = (
    *("smoke", "--data", "data", "--sizing", "sizing.json", "--seed", "3", "--epochs", "50"),
    *("--batch-size", "32", "--checkpoint-every", "10", "--max-steps", "60"),
)
TWO = ("--nodes", "2")

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and slurmd need root"),
]


class Cluster:
    """Commands as a person on the login node types them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "SLURM_CI_DIR": str(folder / "cluster"),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        }

    def script(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [str(SCRIPT), *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *words: str) -> str:
        return self.script("exec", *words)

    def submit(self, *words: str) -> str:
        flags = ("--scheduler", "slurm", "--option", "partition=batch", "--home", "home")
        return self.run("mixdim", "submit", *flags, *words).split("\n")[0]

    def jobs(self, command: str, key: str, *words: str) -> str:
        return self.run("mixdim", "jobs", command, key, "--home", "home", *words)

    def status(self, key: str) -> dict[str, Any]:
        return dict(json.loads(self.jobs("status", key, "--json")))

    def wait_for(self, condition: Callable[[], object], what: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, what()
            time.sleep(0.02)

    def wait_for_state(self, key: str, state: str) -> None:
        self.wait_for(lambda: self.status(key)["state"] == state, lambda: self.jobs("logs", key))

    def freeze_behind_a_checkpoint(self, run: str, key: str) -> None:
        """Stop the ranks of a job in the middle, so that nothing depends on who is faster."""
        checkpoints = self.folder / run / "checkpoints"

        def log() -> str:
            return self.jobs("logs", key)

        self.wait_for(lambda: len(ranks_of(run)) == 2, log)
        self.wait_for(lambda: list(checkpoints.glob("step-*[0-9]")), log)
        for rank in ranks_of(run):
            os.kill(rank, signal.SIGSTOP)
        assert not (self.folder / run / "result.json").exists()

    def scores(self, run: str) -> Any:
        return json.loads((self.folder / run / "result.json").read_text())["scores"]


def ranks_of(run: str) -> list[int]:
    """Processes that train a run."""
    ranks = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            program, *words = (process / "cmdline").read_bytes().split(b"\0")
            is_rank = b"python" in program and b"service.torchrun" not in words
            if is_rank and {b"train", run.encode()} <= set(words):
                ranks.append(int(process.name))
    return ranks


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.script("up", "2")
        yield cluster
    finally:
        cluster.script("down", check=False)


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> dict[str, str]:
    """Names of the jobs that lead from nothing to a run, by verb."""
    fields = ("--fields", "C1", "C9", "C13", "C20")
    words = {
        "prepare": ("--wait", "prepare", "synthetic", "--rows", "3000", "--output", "data"),
        "size": ("--wait", "size", "data", "--dim", "8", *fields),
        "train": ("--wait", *TWO, "train", *TRAIN, "--output", "runs/undisturbed"),
    }
    return {verb: cluster.submit(*line) for verb, line in words.items()}


def test_jobs_lead_from_raw_lines_to_an_evaluated_run_on_two_nodes(
    cluster: Cluster, undisturbed: dict[str, str]
) -> None:
    assert [cluster.status(key)["state"] for key in undisturbed.values()] == ["succeeded"] * 3
    run = json.loads((cluster.folder / "runs/undisturbed/run.json").read_text())
    assert run["world_size"] == 2
    assert "step 60/60" in cluster.jobs("logs", undisturbed["train"])
    key = cluster.submit("--wait", *TWO, "evaluate", "runs/undisturbed", "--json")
    (line,) = [line for line in cluster.jobs("logs", key).splitlines() if line.startswith("{")]
    evaluated = json.loads(line)["scores"]
    assert evaluated["auc"] == pytest.approx(cluster.scores("runs/undisturbed")["auc"])


def test_ranks_of_two_nodes_are_two_machines(cluster: Cluster, undisturbed: dict[str, str]) -> None:
    named = ("sacct", "-n", "-X", "-P", "--name", undisturbed["train"])
    assert cluster.run(*named, "-o", "State,NNodes,NodeList").strip() == "COMPLETED|2|n[1-2]"


def test_a_cancelled_training_has_a_checkpoint_and_its_retry_ends_like_the_undisturbed(
    cluster: Cluster, undisturbed: dict[str, str]
) -> None:
    key = cluster.submit(*TWO, "train", *TRAIN, "--output", "runs/cancelled")
    cluster.freeze_behind_a_checkpoint("runs/cancelled", key)
    assert cluster.status(key)["hosts"] == ["n1", "n2"]
    cluster.jobs("cancel", key)
    cluster.wait_for_state(key, "cancelled")
    assert not (cluster.folder / "runs/cancelled/result.json").exists()
    again = cluster.jobs("retry", key).strip()
    cluster.wait_for_state(again, "succeeded")
    assert cluster.scores("runs/cancelled") == cluster.scores("runs/undisturbed")


def test_a_job_whose_node_dies_comes_back_and_ends_like_the_undisturbed(
    cluster: Cluster, undisturbed: dict[str, str]
) -> None:
    asked = (*TWO, "--max-retries", "1")
    key = cluster.submit(*asked, "train", *TRAIN, "--output", "runs/killed")
    cluster.freeze_behind_a_checkpoint("runs/killed", key)
    cluster.script("crash", "n2")
    cluster.wait_for_state(key, "pending")
    cluster.script("revive", "n2")
    number = cluster.run("squeue", "-h", "-n", key, "-o", "%A").strip()
    # Slurm lets a job that came back wait for two minutes.
    cluster.run("scontrol", "update", f"jobid={number}", "starttime=now")
    cluster.wait_for_state(key, "succeeded")
    assert "restarts 1" in cluster.status(key)["message"]
    assert cluster.scores("runs/killed") == cluster.scores("runs/undisturbed")


def test_refused_input_is_not_tried_again(cluster: Cluster) -> None:
    key = cluster.submit("--max-retries", "3", "size", "/nowhere")
    cluster.wait_for_state(key, "failed")
    status = cluster.status(key)
    assert status["exit_code"] == 2
    assert "restarts" not in status["message"]


def test_the_printed_script_runs_as_it_is(cluster: Cluster, undisturbed: dict[str, str]) -> None:
    words = (*TWO, "--key", "by-hand", "evaluate", "runs/undisturbed", "--json")
    text = cluster.run("mixdim", "submit", "--print", "slurm", *words)
    (cluster.folder / "by-hand.sh").write_text(text)
    cluster.run("sbatch", "--wait", "by-hand.sh")
    (log,) = cluster.folder.glob("by-hand-*.log")
    assert '"auc"' in log.read_text()


def test_the_component_runs_by_torchx_own_scheduler(
    cluster: Cluster, undisturbed: dict[str, str]
) -> None:
    words = ("--run", "runs/undisturbed", "--nnodes", "2", "--nproc_per_node", "1")
    component = ("torchx", "run", "-s", "slurm", "--workspace", "", "mixdim.evaluate", *words)
    handle = cluster.run(*component, "--", "--json").split()[0]
    number = handle.rpartition("/")[2]
    cluster.wait_for(
        lambda: "COMPLETED" in cluster.run("sacct", "-n", "-X", "-j", number, "-o", "State"),
        lambda: handle,
    )
    said = [path.read_text() for path in cluster.folder.glob(f"slurm-{number}-*.out")]
    assert any('"auc"' in text for text in said)
