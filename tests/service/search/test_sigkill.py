"""A search that is killed with SIGKILL, ranks and all, ends as an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.service.warm_runs import make_data

ROOT = Path(__file__).parents[3]
TIMES = {"seconds", "peak_memory_bytes", "own_memory_bytes"}
PATIENCE_SECONDS = 1800
"""Of a command of a minute: two ranks start twice and write a checkpoint every ten steps, each of
which has been seen to take a minute on a machine with fifty times the work it can do."""


def command(folder: Path, output: str, nproc: int, *flags: str) -> list[str]:
    return [
        *(sys.executable, "-m", "service", "search", "sseds", "deepfm", "--budget", "2x"),
        *("--data", str(folder / "data"), "--output", str(folder / output), "--dim", "8"),
        *("--epochs", "2", "--batch-size", "16", "--checkpoint-every", "10", "--matmul", "mkl"),
        # All checkpoints: on a busy machine the one that is waited for would be gone unseen.
        *("--keep-checkpoints", "99", "--network.hidden", "8", "--nproc", str(nproc), *flags),
    ]


def killed(arguments: list[str], moment: Path, log: Path) -> None:
    """Run until a file is there, then SIGKILL to the whole process group."""
    with log.open("w") as stderr:
        process = subprocess.Popen(arguments, cwd=ROOT, start_new_session=True, stderr=stderr)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not moment.exists():
            assert process.poll() is None, f"{moment} never came\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{moment} is late\n{log.read_text()}"
            time.sleep(0.01)
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


def finish(arguments: list[str]) -> str:
    """Run to the end, and give what it says on the way."""
    done = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert not done.returncode, done.stderr
    return done.stderr


def found(folder: Path) -> dict[str, Any]:
    """What a search has found, without times and memory."""
    record = json.loads((folder / "search.json").read_text())
    del record["cost"]
    stages = [{k: v for k, v in stage.items() if k not in TIMES} for stage in record["stages"]]
    return record | {"stages": stages}


@pytest.fixture(scope="module", params=[1, 2])
def calm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Data, the ranks, and a search on them that nothing disturbs."""
    folder = tmp_path_factory.mktemp("sigkill")
    make_data(folder / "data")
    finish(command(folder, "calm", request.param))
    return folder, request.param


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["base", "retrain"])
def test_sigkill_in_any_stage_changes_nothing(moment, calm):
    folder, nproc = calm
    output = folder / f"killed-in-{moment}"
    checkpoint = output / "stages" / moment / "checkpoints" / "step-00000010"
    killed(command(folder, output.name, nproc), checkpoint, folder / f"{moment}.log")
    assert json.loads((output / "search.json").read_text())["status"] == "running"
    said = finish(command(folder, output.name, nproc, "--resume"))
    assert "saliency: " in said
    assert found(output) == found(folder / "calm")
