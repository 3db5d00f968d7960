"""A search that is killed with SIGKILL, ranks and all, ends as an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.service.warm_runs import make_data

ROOT = Path(__file__).parents[3]
TIMES = {"seconds", "peak_memory_bytes"}


def command(folder: Path, output: str, nproc: int, *flags: str) -> list[str]:
    return [
        *(sys.executable, "-m", "service", "search", "sseds", "deepfm", "--budget", "2x"),
        *("--data", str(folder / "data"), "--output", str(folder / output), "--dim", "8"),
        *("--epochs", "3", "--batch-size", "16", "--checkpoint-every", "5", "--matmul", "mkl"),
        *("--network.hidden", "8", "--nproc", str(nproc), *flags),
    ]


def killed(arguments: list[str], moment: Path) -> None:
    """Run until a file is there, then SIGKILL to the whole process group."""
    process = subprocess.Popen(
        arguments, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not moment.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{moment} never came"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def found(folder: Path) -> dict[str, Any]:
    """What a search has found, without times and memory."""
    record = json.loads((folder / "search.json").read_text())
    del record["cost"]
    stages = [{k: v for k, v in stage.items() if k not in TIMES} for stage in record["stages"]]
    return record | {"stages": stages}


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("nproc", [1, 2])
@pytest.mark.parametrize("moment", ["base", "retrain"])
def test_sigkill_in_any_stage_changes_nothing(moment, nproc, tmp_path):
    make_data(tmp_path / "data")
    subprocess.run(command(tmp_path, "calm", nproc), cwd=ROOT, check=True, capture_output=True)
    checkpoint = tmp_path / "killed" / "stages" / moment / "checkpoints" / "step-00000010"
    killed(command(tmp_path, "killed", nproc), checkpoint)
    assert json.loads((tmp_path / "killed" / "search.json").read_text())["status"] == "running"
    again = command(tmp_path, "killed", nproc, "--resume")
    done = subprocess.run(again, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "saliency: " in done.stderr
    assert found(tmp_path / "killed") == found(tmp_path / "calm")
