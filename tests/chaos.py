"""Kill trainings at random moments, and see each of them end as an undisturbed one.

    python -m tests.chaos --runs 100 --seed 0 --json chaos.json

Every run trains on a small dataset and gets a SIGKILL, at a moment drawn evenly over the phases of
a run, the visits to the phase and the time that it takes: mostly one of two ranks, sometimes one of
four, sometimes the launcher, after which the run is started with --resume, as is one that trains
in the launcher itself. It has to end with scores, metrics, checkpoints and weights of an
undisturbed run, to the last digit, and to leave no process behind.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed.checkpoint as dcp
from pydantic import TypeAdapter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from service.config import TrainConfig
from service.distributed import launch
from service.logs import configure_logs
from tests.marks import PHASES, Marks, marked_train
from tests.service.train.runs import make_run
from tests.strikes import Strike, Striker, orphans, rank_processes, session_processes

ROOT: Final = Path(__file__).parents[1]
GLOBAL_BATCH: Final = 80
TIMES: Final = {"examples_per_second", "loader_wait_ratio"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a run."""

    number: int
    strikes: tuple[Strike, ...]
    faults: tuple[str, ...]
    """Nothing where it ended as it should."""


class Chaos:
    """Runs on one dataset, and what they are compared with.

    Args:
        folder: Gets data and runs.
        seed: Decides about every strike.
    """

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self.folder, self.seed = folder, seed
        rows = {"train": 1200, "validation": 100, "test": 100}
        self._config = make_run(
            folder, rows=rows, epochs=2, checkpoint_every=4, log_every=3, max_restarts=5
        )
        self._calm: dict[int, tuple[dict[str, Any], list[list[float]]]] = {}

    def run(self, number: int) -> Outcome:
        """One run and its strikes; drawn anew where it ended before it was struck."""
        for attempt in range(20):
            draw = random.Random(f"{self.seed}-{number}-{attempt}")
            path = self.folder / f"run-{number}"
            shutil.rmtree(path, ignore_errors=True)
            strikes, faults = self._run(number, path, draw)
            if strikes:
                break
        if not faults:
            shutil.rmtree(path)
        return Outcome(number=number, strikes=tuple(strikes), faults=tuple(faults))

    def _run(self, number: int, path: Path, draw: random.Random) -> tuple[list[Strike], list[str]]:
        nproc = 4 if number % 25 == 3 else 1 if number % 25 == 7 else 2
        config = self._sized(nproc, path / "run")
        expected, durations = self._undisturbed(nproc)
        path.mkdir()
        marks = Marks(path / "marks")
        strike = Striker(marks, durations, draw, nproc)
        if nproc == 1 or number % 10 == 5:
            strikes, faults = self._strike_launcher(config, path, strike)
        else:
            times = 2 if draw.random() < 0.15 else 1
            strikes, faults = _strike_ranks(config, path, strike, times)
        try:
            return strikes, faults + _differences(expected, found_in(config.output))
        except (OSError, dcp.api.CheckpointException) as error:
            return strikes, [*faults, f"a file is missing or broken: {error!r}"]

    def _sized(self, nproc: int, output: Path) -> TrainConfig:
        return replace(self._config, nproc=nproc, batch_size=GLOBAL_BATCH // nproc, output=output)

    def _undisturbed(self, nproc: int) -> tuple[dict[str, Any], list[list[float]]]:
        if nproc not in self._calm:
            path = self.folder / f"calm-{nproc}"
            config = self._sized(nproc, path / "run")
            path.mkdir()
            is_over = threading.Event()
            durations: list[list[float]] = []
            marks = Marks(path / "marks")

            def watch() -> None:
                durations.extend(marks.durations(is_over.is_set))

            watcher = threading.Thread(target=watch)
            watcher.start()
            launch(marked_train, config, path / "marks", nproc=nproc, name="calm")
            is_over.set()
            watcher.join()
            self._calm[nproc] = found_in(config.output), durations
        return self._calm[nproc]

    def _strike_launcher(
        self, config: TrainConfig, path: Path, strike: "Striker"
    ) -> tuple[list[Strike], list[str]]:
        """Kill the process that has started the ranks; then go on with --resume."""
        (path / "config.json").write_bytes(TypeAdapter(TrainConfig).dump_json(config))
        command = [sys.executable, "-m", "tests.chaos", "--victim", str(path)]
        with (path / "log").open("w") as log:
            victim = subprocess.Popen(
                command, cwd=ROOT, stderr=log, stdout=log, start_new_session=True
            )
        found = strike(lambda: {"launcher": victim.pid}, lambda: victim.poll() is not None)
        victim.wait()
        faults = orphans(lambda: session_processes(victim.pid))
        if found:
            resumed = replace(config, resume=True)
            arguments = (marked_train, resumed, path / "marks")
            launch(*arguments, nproc=config.nproc, name="again", max_restarts=0)
        return found, faults


def _strike_ranks(
    config: TrainConfig, path: Path, strike: Striker, times: int
) -> tuple[list[Strike], list[str]]:
    """Kill ranks of a run that this process has launched."""
    is_over = threading.Event()
    strikes: list[Strike] = []

    def kill() -> None:
        for _ in range(times):
            strikes.extend(strike(rank_processes, is_over.is_set))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        arguments = (marked_train, config, path / "marks")
        launch(*arguments, nproc=config.nproc, name="chaos", max_restarts=config.max_restarts)
    except Exception as error:
        return strikes, [f"the job failed: {error!r}"]
    finally:
        is_over.set()
        killer.join()
    return strikes, orphans(lambda: list(rank_processes().values()))


def found_in(run: Path) -> dict[str, Any]:
    """All that must not depend on what happened on the way."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    result = json.loads((run / "result.json").read_text())
    checkpoints = {path.name: _contents(path) for path in sorted((run / "checkpoints").iterdir())}
    return {
        "result": {name: value for name, value in result.items() if name not in TIMES},
        "metrics": [{k: v for k, v in line.items() if k not in TIMES} for line in metrics],
        "checkpoints": list(checkpoints),
        **checkpoints,
    }


def _contents(checkpoint: Path) -> dict[str, Any]:
    """Every tensor of a checkpoint, and its progress."""
    reader = dcp.FileSystemReader(checkpoint)
    stored = reader.read_metadata().state_dict_metadata
    tensors: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in stored.items()
        # These generators are seeded by the system, and nothing in a training draws from them.
        if isinstance(entry, TensorStorageMetadata) and not name.endswith((".python", ".numpy"))
    }
    dcp.load(tensors, storage_reader=reader, no_dist=True)
    return {name: tensor.tolist() for name, tensor in tensors.items()} | {
        "progress": json.loads((checkpoint / "progress.json").read_text())
    }


def _differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    names = expected.keys() | found.keys()
    return [f"{name} differs" for name in sorted(names) if expected.get(name) != found.get(name)]


def main() -> int:
    """Run from the command line; 0 if all runs ended as they should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="gets the record")
    parser.add_argument("--victim", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.victim:
        content = (flags.victim / "config.json").read_bytes()
        config = TypeAdapter(TrainConfig).validate_json(content)
        marks = flags.victim / "marks"
        launch(marked_train, config, marks, nproc=config.nproc, name="victim", max_restarts=5)
        return 0
    return _run_all(flags)


def _run_all(flags: argparse.Namespace) -> int:
    configure_logs()
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), seed=flags.seed)
        for number in range(flags.first, flags.first + flags.runs):
            started = time.monotonic()
            outcome = chaos.run(number)
            outcomes.append(outcome)
            what = ", ".join(f"{s.victim} of {s.ranks} in {s.phase}" for s in outcome.strikes)
            end = "; ".join(outcome.faults) or "as undisturbed"
            say(f"run {number}: {what}: {end} ({time.monotonic() - started:.0f} s)")
            if flags.json:
                record = {"seed": flags.seed, "runs": [asdict(done) for done in outcomes]}
                flags.json.write_text(json.dumps(record, indent=1) + "\n")
    say(table(outcomes))
    return int(any(outcome.faults for outcome in outcomes))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def table(outcomes: Sequence[Outcome]) -> str:
    """Kills by phase and victim, and the runs that ended otherwise than they should."""
    victims = ("a rank", "launcher")
    counted = Counter(
        (strike.phase, "launcher" if strike.victim == "launcher" else "a rank")
        for outcome in outcomes
        for strike in outcome.strikes
    )
    rows = [
        f"| {phase} | " + " | ".join(str(counted[phase, v]) for v in victims) + " |"
        for phase in PHASES
    ]
    good = sum(not outcome.faults for outcome in outcomes)
    head = ["| phase | a rank killed | the launcher killed |", "|---|---|---|"]
    return "\n".join([*head, *rows, f"{good} of {len(outcomes)} runs ended as undisturbed"])


if __name__ == "__main__":
    sys.exit(main())
