"""Trainings that several searches need: whoever comes first trains one, the others wait for it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedStages:
    """Where searches find the trainings of each other."""

    folder: Path
    locks: Path
    """A folder of this machine, for file systems over networks may be without locks."""

    @contextmanager
    def held(self, name: str) -> Iterator[Path]:
        """The folder of a training, once nobody else holds it; whoever is killed does no longer."""
        with (self.locks / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.folder / name
