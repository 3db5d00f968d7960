"""What a finished run took, so that what is built on it can count it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.run_folder import METRICS_FILE, RESULT_FILE, RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCost:
    """What a run took."""

    seconds: float
    """Of training, loading included; validations and checkpoints are not."""
    examples: int
    """Read for training, those of an architecture's own steps included."""


def run_cost(folder: Path) -> RunCost:
    """What a run took, and the runs that it was started from.

    Raises:
        FileNotFoundError: If there is no such run, or it has not ended.
    """
    own = own_cost(folder)
    before = RunFolder(folder).read_run().get("warm_start") or {"seconds": 0.0, "examples": 0}
    return RunCost(
        seconds=before["seconds"] + own.seconds, examples=before["examples"] + own.examples
    )


def own_cost(folder: Path) -> RunCost:
    """What a run took by itself.

    Raises:
        FileNotFoundError: If there is no such run, or it has not ended.
        ValueError: If a line of its metrics cannot be read.
    """
    path = folder / RESULT_FILE
    RunFolder(folder).read_run()
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {RESULT_FILE}: the warm-up has not ended; go on with it: "
            f"mixdim train ... --resume"
        )
    with (folder / METRICS_FILE).open() as file:
        lines = [_record(line, file.name, number) for number, line in enumerate(file, 1)]
    trained = [line for line in lines if line["kind"] == "train"]
    # The rate of result.json is of the last start alone, and that may have had nothing to train.
    examples, seconds = 0, 0.0
    for line in trained:
        new = max(line["examples"] - examples, 0)
        examples, seconds = examples + new, seconds + new / line["examples_per_second"]
    others = max((line.get("architecture_examples", 0) for line in trained), default=0)
    return RunCost(seconds=seconds, examples=examples + others)


def _record(line: str, path: str, number: int) -> dict[str, Any]:
    """A line of the metrics; one that cannot be read is named by its file and number."""
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path}: line {number}: {error}; restore the file, or train the warm-up anew"
        ) from error
    return record
