"""Where a training is, for a process that watches it: the phases that chaos strikes in."""

import mmap
import os
import struct
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

from service.config import TrainConfig

PHASES: Final = ("start-up", "steps", "checkpoint", "evaluation", "end")
METHODS: Final = {"_train": 1, "_save": 2, "_evaluate": 3, "_finish": 4}
"""Methods of the training loop -> phase."""
INNER: Final = (2, 3)
"""Phases after which the one before goes on."""
_FORM: Final = struct.Struct(f"<{1 + len(PHASES)}i")


class Marks:
    """The phase that a run is in, and how often it has entered each, in a file that is mapped."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_FORM.pack(0, 1, *[0] * (len(PHASES) - 1)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _FORM.size)

    def read(self) -> tuple[int, tuple[int, ...]]:
        """Phase now, and entries by phase."""
        phase, *entries = _FORM.unpack(self._memory[:])
        return phase, tuple(entries)

    def enter(self, phase: int) -> int:
        """Say that a phase begins, and which one ends."""
        before, entries = self.read()
        counted = [count + (index == phase) for index, count in enumerate(entries)]
        self._memory[:] = _FORM.pack(phase, *counted)
        return before

    def durations(self, is_over: Callable[[], bool]) -> list[list[float]]:
        """Watch a run; seconds of every stay in every phase."""
        found: list[list[float]] = [[] for _ in PHASES]
        state, since = self.read(), time.monotonic()
        while not is_over():
            time.sleep(0.001)
            now = self.read()
            if now != state:
                found[state[0]].append(time.monotonic() - since)
                state, since = now, time.monotonic()
        found[state[0]].append(time.monotonic() - since)
        return found


def marked_train(config: TrainConfig, path: Path) -> Any:
    """Train; the first rank says where it is."""
    from service.train import loop

    if os.environ.get("RANK", "0") == "0":
        is_marking = hasattr(loop._Training, "marks")
        loop._Training.marks = Marks(path)  # type: ignore[attr-defined]
        loop._Training.marks.enter(0)  # type: ignore[attr-defined]
        for name, phase in {} if is_marking else METHODS.items():
            setattr(loop._Training, name, _marking(phase, getattr(loop._Training, name)))
    return loop.train(config)


def _marking(phase: int, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def marked(self: Any, *arguments: object) -> Any:
        before, _ = self.marks.read()
        is_end = before == METHODS["_finish"]  # its evaluation is a part of it
        if not is_end:
            self.marks.enter(phase)
        try:
            return method(self, *arguments)
        finally:
            if not is_end and phase in INNER:
                self.marks.enter(before)

    return marked
