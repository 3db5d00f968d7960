"""The folder of a search: taken by its first stage, given back where that is refused."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from service.search.record import SEARCH_FILE, SearchRecord, write_record
from service.search.search import STAGES

BEFORE: Final = ".before"


class SearchFolder:
    """Keeps what a search overwrites until one of its own stages has been trained.

    Much is refused only by the first training, which knows tables, kernels and devices. Nothing
    is lost by that: the folder is as it was.

    Args:
        path: The folder; itself it stays, for it is locked.
        overwrites: Whether what is in it may go.
    """

    def __init__(self, path: Path, *, overwrites: bool) -> None:
        self._path, self._overwrites = path, overwrites
        self._before = path / BEFORE
        self._is_taken = False

    def take(self, record: SearchRecord) -> None:
        """Set aside what is there, and write the record."""
        if self._overwrites:
            if self._before.is_dir():  # of a search that has trained nothing before it was killed
                _delete(self._others())
            self._before.mkdir(exist_ok=True)
            _move(self._others(), self._before)
        write_record(record, self._path)
        self._is_taken = True

    def settle(self) -> None:
        """A stage is there: what was set aside goes."""
        if self._is_taken and self._before.is_dir():
            shutil.rmtree(self._before)

    def give_back(self) -> None:
        """Leave the folder as it was, unless there is anything to go on from."""
        stages = self._path / STAGES
        has_trained = any(stages.glob("*.json")) or any(stages.glob("*/checkpoints/*"))
        if not self._is_taken or has_trained:
            return
        _delete(self._others())
        if self._before.is_dir():
            _move(self._before.iterdir(), self._path)
            self._before.rmdir()

    def _others(self) -> list[Path]:
        """All but what is set aside; the record last: whoever is killed before may go on."""
        others = (path for path in self._path.iterdir() if path != self._before)
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
