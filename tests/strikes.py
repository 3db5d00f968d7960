"""A SIGKILL at a moment of a training that chance decides, and which processes are left."""

import multiprocessing.forkserver
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.marks import PHASES, Marks

PATIENCE_SECONDS: Final = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """One SIGKILL."""

    phase: str
    """Where the first rank was when it came."""
    victim: str
    ranks: int


class Striker:
    """Waits for its moment, and kills."""

    def __init__(
        self, marks: Marks, durations: list[list[float]], draw: random.Random, nproc: int
    ) -> None:
        self._marks, self._durations, self._draw, self._nproc = marks, durations, draw, nproc

    def __call__(
        self, victims: Callable[[], dict[str, int]], is_over: Callable[[], bool]
    ) -> list[Strike]:
        """Kill one of the processes; nothing if they end before the moment comes."""
        phase = self._draw.randrange(len(PHASES))
        visit = self._draw.randrange(len(self._durations[phase]))
        seconds = self._draw.uniform(0, 1.1 * self._durations[phase][visit])
        deadline = time.monotonic() + PATIENCE_SECONDS
        # The marks' file counts a start before there is a process.
        while not victims() or self._marks.read()[1][phase] <= visit:
            if is_over() or time.monotonic() > deadline:
                return []
            time.sleep(0.001)
        time.sleep(seconds)
        alive = victims()
        if is_over() or not alive:
            return []
        name = self._draw.choice(sorted(alive))
        at, _ = self._marks.read()
        os.kill(alive[name], signal.SIGKILL)
        return [Strike(phase=PHASES[at], victim=name, ranks=self._nproc)]


def rank_processes() -> dict[str, int]:
    """Processes that were forked for ranks of this process, oldest first."""
    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    try:
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    except FileNotFoundError:
        return {}
    return {f"rank {rank}": int(pid) for rank, pid in enumerate(children)}


def session_processes(leader: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *_ = stat.read_text().rpartition(") ")[2].split()
        except FileNotFoundError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def orphans(processes: Callable[[], Sequence[int]]) -> list[str]:
    deadline = time.monotonic() + 60
    while left := processes():
        if time.monotonic() > deadline:
            return [f"processes {left} are left"]
        time.sleep(0.05)
    return []
