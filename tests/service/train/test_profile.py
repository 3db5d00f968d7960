"""`--profile`: the steps that were asked for, in a trace and a table."""

import json
from pathlib import Path

import torch
from torch.profiler import record_function

from service.train.profile import SKIPPED_STEPS, profiled


def run(folder: Path, *, num_steps: int, asked: int) -> None:
    with profiled(folder, asked) as end_step:
        for _ in range(num_steps):
            with record_function("a step"):
                torch.ones(8, 8) @ torch.ones(8, 8)
            end_step()


def recorded(folder: Path) -> int:
    events = json.loads((folder / "profile.json").read_text())["traceEvents"]
    return sum(event.get("name") == "a step" for event in events)


def test_the_trace_holds_the_steps_that_were_asked_for(tmp_path: Path) -> None:
    run(tmp_path, num_steps=SKIPPED_STEPS + 20, asked=3)
    assert recorded(tmp_path) == 3
    assert "aten::mm" in (tmp_path / "profile.txt").read_text()


def test_a_run_that_ends_early_leaves_the_steps_that_there_were(tmp_path: Path) -> None:
    run(tmp_path, num_steps=SKIPPED_STEPS + 2, asked=100)
    assert recorded(tmp_path) == 2


def test_without_a_profile_nothing_is_written(tmp_path: Path) -> None:
    run(tmp_path, num_steps=SKIPPED_STEPS + 2, asked=0)
    assert not any(tmp_path.iterdir())
