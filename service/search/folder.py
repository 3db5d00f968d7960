"""The folder of a search: taken by its first stage, given back where that is refused."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from service.search.record import SEARCH_FILE, SearchRecord, write_record
from service.search.search import STAGES

BEFORE: Final = ".before"
MOVING: Final = ".before-moving"
GONE: Final = ".before-gone"


class SearchFolder:
    """Keeps what a search overwrites until it has trained something itself.

    Much is refused only by the first training, which knows tables, kernels and devices. Nothing
    is lost by that: the folder is as it was. Nor is anything by a kill: what moves is in a folder
    of its own until all of it has moved, and whoever comes next moves it back.

    Args:
        path: The folder; itself it stays, for it is locked.
        overwrites: Whether what is in it may go.
    """

    def __init__(self, path: Path, *, overwrites: bool) -> None:
        self._path, self._overwrites = path, overwrites
        self._before, self._moving, self._gone = (path / n for n in (BEFORE, MOVING, GONE))
        self._is_new = False

    @property
    def is_ours(self) -> bool:
        """Whether a search is in it, or was before another one took it."""
        return any((folder / SEARCH_FILE).is_file() for folder in (self._path, self._before))

    def tidy(self) -> None:
        """Undo a move that was killed, and end a deletion that was."""
        if self._moving.is_dir():
            self._move_back()
        _delete([self._gone] if self._gone.is_dir() else [])

    def take(self, record: SearchRecord) -> None:
        """Set aside what is there, and write the record."""
        if self._overwrites:
            if self._before.is_dir() and not self._has_trained:
                _delete(self._others())
            else:
                self.settle()
                self._moving.mkdir()
                _move(self._others(), self._moving)
                self._moving.rename(self._before)
        self._is_new = not (self._path / SEARCH_FILE).is_file()
        write_record(record, self._path)

    def settle(self) -> None:
        """Let go what was set aside: there is something to go on from."""
        if self._before.is_dir():
            self._before.rename(self._gone)
            shutil.rmtree(self._gone)

    def give_back(self) -> None:
        """Leave the folder as it was, unless there is anything to go on from."""
        if self._has_trained or not (self._is_new or self._before.is_dir()):
            return
        _delete(self._others())
        if self._before.is_dir():
            self._before.rename(self._moving)
            self._move_back()

    @property
    def _has_trained(self) -> bool:
        stages = self._path / STAGES
        return any(stages.glob("*.json")) or any(stages.glob("*/checkpoints/*"))

    def _move_back(self) -> None:
        _move(self._moving.iterdir(), self._path)
        self._moving.rmdir()

    def _others(self) -> list[Path]:
        """All but what is set aside; the record last, for without it nobody knows the rest."""
        aside = {self._before, self._moving, self._gone}
        others = (path for path in self._path.iterdir() if path not in aside)
        return sorted(others, key=lambda path: path.name == SEARCH_FILE)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move(paths: Iterable[Path], folder: Path) -> None:
    for path in list(paths):
        path.rename(folder / path.name)
