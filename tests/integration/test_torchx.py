"""A training that TorchX starts: the ranks are its own, the run folder is the usual one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.sizing import write_sizing
from service.sizing_request import SizingRequest, size_dataset
from tests.datasets import write_dataset

ROOT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent


def torchx_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the component with the local scheduler, two ranks, and wait for its end."""
    scheduler = ("--scheduler", "local_cwd", "--wait", "--log")
    places = ("--data", "data", "--sizing", "sizing.json", "--output", "run")
    job = (*places, "--preset", "smoke", "--nproc_per_node", "2", "--", *arguments)
    environment = os.environ | {
        "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",  # for python
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [str(COMMANDS / "torchx"), "run", *scheduler, "mixdim.train", *job],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data")
    sizing = size_dataset(tmp_path / "data", SizingRequest())
    write_sizing(sizing, tmp_path / "sizing.json")
    return tmp_path


@pytest.mark.dist
def test_a_job_trains_on_the_ranks_that_torchx_starts(folder: Path) -> None:
    done = torchx_run(folder, "--max-steps", "3", "--batch-size", "32")
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((folder / "run" / "run.json").read_text())
    assert run["world_size"] == 2, "a job that ran elsewhere would have succeeded, too"
    assert json.loads((folder / "run" / "result.json").read_text())["steps"] == 3


@pytest.mark.dist
def test_a_job_that_fails_says_why_and_fails_torchx(folder: Path) -> None:
    (folder / "sizing.json").unlink()
    done = torchx_run(folder)
    assert done.returncode != 0
    assert "sizing.json" in done.stdout + done.stderr
    assert not (folder / "run" / "result.json").exists()
