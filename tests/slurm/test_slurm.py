"""A real Slurm of two nodes: jobs run, are watched, cancelled, lost with their machine, come back.

``make test-slurm`` installs what it takes. All jobs are tiny, on made-up data.
"""

import json
import re

import pytest

from tests.docs.commands import lines
from tests.docs.fates import ON_SLURM
from tests.docs.scenes import SHARED
from tests.docs.scenes_of_jobs import SLURM
from tests.docs.walking import lay_out, script
from tests.slurm.cluster import MARKS, Cluster, scores

TRAIN = (
    *("smoke", "--data", "data", "--sizing", "sizing.json", "--seed", "3", "--epochs", "50"),
    *("--batch-size", "32", "--checkpoint-every", "10", "--max-steps", "60"),
    *("--matmul", "mkl"),  # two runs are compared to the last digit: none may choose by its speed
)
TWO = ("--nodes", "2")

pytestmark = MARKS


def freeze(cluster: Cluster, run: str, key: str) -> None:
    """Stop a training in its middle."""
    cluster.freeze_behind_a_checkpoint(cluster.folder / run, lambda: cluster.jobs("logs", key))


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
    assert evaluated["auc"] == pytest.approx(scores(cluster.folder / "runs/undisturbed")["auc"])


def test_ranks_of_two_nodes_are_two_machines(cluster: Cluster, undisturbed: dict[str, str]) -> None:
    (said,) = cluster.accounted(undisturbed["train"], "State,NNodes,NodeList")
    assert said == "COMPLETED|2|n[1-2]"


def test_a_cancelled_training_has_a_checkpoint_and_its_retry_ends_like_the_undisturbed(
    cluster: Cluster, undisturbed: dict[str, str]
) -> None:
    key = cluster.submit(*TWO, "train", *TRAIN, "--output", "runs/cancelled")
    freeze(cluster, "runs/cancelled", key)
    assert cluster.status(key)["hosts"] == ["n1", "n2"]
    cluster.jobs("cancel", key)
    cluster.wait_for_state(key, "cancelled")
    assert not (cluster.folder / "runs/cancelled/result.json").exists()
    again = cluster.jobs("retry", key).strip()
    cluster.wait_for_state(again, "succeeded")
    assert scores(cluster.folder / "runs/cancelled") == scores(cluster.folder / "runs/undisturbed")


def test_a_job_whose_node_dies_comes_back_and_ends_like_the_undisturbed(
    cluster: Cluster, undisturbed: dict[str, str]
) -> None:
    asked = (*TWO, "--max-retries", "1")
    key = cluster.submit(*asked, "train", *TRAIN, "--output", "runs/killed")
    freeze(cluster, "runs/killed", key)
    cluster.script("crash", "n2")
    cluster.wait_for_state(key, "pending")
    cluster.script("revive", "n2")
    # Slurm lets it wait for two minutes, in which what is left of its first life ends.
    cluster.wait_for_state(key, "succeeded")
    assert "restarts 1" in cluster.status(key)["message"]
    assert scores(cluster.folder / "runs/killed") == scores(cluster.folder / "runs/undisturbed")


def test_refused_input_is_not_tried_again(cluster: Cluster) -> None:
    key = cluster.submit("--max-retries", "3", "size", "/nowhere")
    cluster.wait_for_state(key, "failed")
    status = cluster.status(key)
    assert status["exit_code"] == 2
    assert "restarts" not in status["message"]
    assert "mixdim size: error: /nowhere holds no dataset.json" in status["message"]


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


def test_what_the_pages_type_for_slurm_runs_on_it(cluster: Cluster) -> None:
    typed = [line for line in lines() if re.search(ON_SLURM, line.text)]
    assert len(typed) == 4
    lay_out(cluster.folder / "pages", script(typed, SLURM, SHARED))
    at_home = "cd pages && HOME=$PWD bash .walk.sh"
    cluster.run("bash", "-c", at_home)
