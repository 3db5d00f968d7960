"""What a run took, by the lines that its training has left."""

import json
from pathlib import Path

import pytest

from service.run_cost import own_cost


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two starts; a third one had only to score it again."""
    lines = [
        {"kind": "train", "examples": 100, "examples_per_second": 50.0},
        {"kind": "validation"},
        {"kind": "train", "examples": 400, "examples_per_second": 100.0},
    ]
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "result.json").write_text(json.dumps({"examples_per_second": 0.0}))
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return tmp_path


def test_a_line_that_cannot_be_read_is_named(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl: line 4: Expecting .*; restore the file"):
        own_cost(folder)


def test_the_seconds_of_a_run_are_those_of_all_its_starts(folder: Path) -> None:
    cost = own_cost(folder)
    assert (cost.examples, cost.seconds) == (400, 100 / 50 + 300 / 100)
