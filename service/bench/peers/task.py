"""What every contender of ``mixdim bench race`` is given, and what it gives back.

A contender runs as ``python -m service.bench.peers.NAME`` in its own environment: this module needs
numpy and pyarrow, a contender's own module torch and the library that is raced, and neither needs
anything of the product.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.bench.peers.answer import answer, cpu_seconds, peak_rss_bytes

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]
Split = Literal["train", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """A split, in memory."""

    labels: Floats
    """``(n,)``"""
    dense: dict[str, Floats]
    """``(n,)`` by column."""
    ids: dict[str, Ids]
    """``(n,)`` by field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceTask:
    """One epoch of one network."""

    data: Path
    """Dataset folder of ``mixdim prepare``."""
    variant: str
    """Which of the module's contenders to be."""
    network: str
    batch_size: int
    dim: int
    threads: int
    seed: int
    max_seconds: float
    """Training that takes longer is cut off, and its epoch extrapolated; 0 for whole epochs."""
    sizing: Path | None
    """Plan of the product's tables."""
    scores: Path | None
    """File for the probabilities of the test split."""

    @property
    def num_embeddings(self) -> dict[str, int]:
        """Ids by field."""
        fields = self._info()["fields"]
        return {f["stats"]["name"]: int(f["stats"]["num_embeddings"]) for f in fields}

    @property
    def dense_names(self) -> list[str]:
        """Names of the dense columns."""
        return [str(column["name"]) for column in self._info()["dense"]]

    @property
    def num_rows(self) -> int:
        """Rows of the training split."""
        return int(self._info()["splits"]["train"]["num_rows"])

    def read(self, split: Split) -> Rows:
        """Read a whole split."""
        parts = [self.data / part["path"] for part in self._info()["splits"][split]["parts"]]
        table = pq.read_table(parts if len(parts) > 1 else parts[0])
        return Rows(
            labels=table["label"].to_numpy(),
            dense={name: table[name].to_numpy() for name in self.dense_names},
            ids={name: table[name].to_numpy() for name in self.num_embeddings},
        )

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = json.loads((self.data / "dataset.json").read_text())
        return info


class TimeIsUp(Exception):  # noqa: N818 - nothing went wrong
    """The time that training may take is over."""


class Clock:
    """Counts steps, ends training in time, and says how long an epoch takes.

    Args:
        task: Gives the number of steps of an epoch and the time limit.
        now: Seconds, from any moment on.
    """

    def __init__(self, task: RaceTask, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._limit = task.max_seconds or float("inf")
        self._num_rows, self._batch_size = task.num_rows, task.batch_size
        self.restart()

    def restart(self) -> None:
        """Begin to count now."""
        self._start = self._last = self._first = self._now()
        self._num_steps = 0
        self._cpu_start = cpu_seconds()

    def step(self, *_ignored: object) -> None:
        """Take note of the end of a step; also a hook of optimizers."""
        self._last = self._now()
        self._num_steps += 1
        if self._num_steps == 1:
            self._first = self._last
        if self._last - self._start > self._limit and self._num_steps > 1:
            raise TimeIsUp

    def figures(self) -> dict[str, float]:
        """Examples per second of an epoch from before reading to the end of the last step.

        An epoch that was cut off takes as long as it took until the end of the first step, and
        the mean of the other steps for each of the rest.
        """
        whole = self._num_rows / self._batch_size
        first, rest = self._first - self._start, self._last - self._first
        seconds = first + rest * (whole - 1) / max(self._num_steps - 1, 1)
        trained_ratio = min(1.0, self._num_steps / whole)
        used = cpu_seconds() - self._cpu_start
        return {
            "examples_per_second": self._num_rows / seconds,
            # With one thread, this figure hardly minds neighbours that slow the wall clock down.
            "examples_per_cpu_second": self._num_rows * trained_ratio / used,
            "first_step_seconds": first,
            "trained_ratio": trained_ratio,
        }


Predict = Callable[[], NDArray[np.floating[Any]]]
"""Probabilities of the test split, in the order of its rows."""

Train = Callable[[RaceTask, Clock], Predict]
"""Read the training split, build the network and train one epoch; the clock is running."""


def take_part(train: Train, packages: Sequence[str]) -> None:
    """Train as the arguments say; write probabilities, print figures as JSON."""
    task = _task_of(sys.argv[1:])
    clock = Clock(task)
    predict = train(task, clock)
    figures = clock.figures() | {"peak_rss_bytes": peak_rss_bytes()}
    if task.scores is not None:
        np.save(task.scores, predict().astype(np.float64).reshape(-1))
    answer(figures, packages)


def _task_of(arguments: Sequence[str]) -> RaceTask:
    parser = argparse.ArgumentParser()
    for name in ("data", "sizing", "scores"):
        parser.add_argument(f"--{name}", type=Path)
    for name in ("variant", "network"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("batch-size", "dim", "threads", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--max-seconds", type=float, default=0.0)
    return RaceTask(**vars(parser.parse_args(arguments)))
