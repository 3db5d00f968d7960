"""Which checkpoint of a folder to read: the newest, or the best, that is whole."""

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from service.checkpoint.manifest import MANIFEST_FILE, damage
from service.checkpoint.progress import PROGRESS_FILE, read_progress

PREFIX: Final = "step-"
UNFINISHED: Final = ".unfinished"
REPLACED: Final = ".replaced"
"""An older checkpoint of the same step, kept until the newer one has its name."""
DAMAGED: Final = ".damaged"
_FINISHED: Final = re.compile(rf"{PREFIX}(\d+)({re.escape(REPLACED)})?")

Examine = Callable[[Path], str | None]
"""What is wrong with a checkpoint."""

Choice = tuple[Path | None, dict[str, str]]
"""A checkpoint, if there is one, and what is wrong with those that had precedence, by name."""


def name_of(step: int) -> str:
    """Folder name of a step's checkpoint."""
    return f"{PREFIX}{step:08d}"


def finished(folder: Path) -> list[Path]:
    """Checkpoints that were finished once, oldest first, whatever has become of them since.

    What somebody has put beside them, as a copy of one under another name, is left alone.
    """
    names = {path: _FINISHED.fullmatch(path.name) for path in folder.glob(f"{PREFIX}*")}
    places = {path: (int(name[1]), not name[2]) for path, name in names.items() if name}
    return sorted(places, key=lambda path: places[path])


def newest(folder: Path, paths: Sequence[Path], examine: Examine) -> Choice:
    """The last of some checkpoints that is whole.

    Raises:
        ValueError: If there are some, and none is whole.
    """
    problems: dict[str, str] = {}
    for path in reversed(paths):
        problem = examine(path)
        if problem is None:
            return path, problems
        problems[path.name] = problem
    if problems:
        reasons = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise ValueError(
            f"{folder} holds no whole checkpoint ({reasons}); copy one back from a "
            f"backup, or train anew with --overwrite"
        )
    return None, problems


def best(folder: Path, paths: Sequence[Path], examine: Examine) -> Choice:
    """The checkpoint that validated best; the newest where none did or the best is damaged."""
    last, problems = newest(folder, paths, examine)
    if last is None:
        return None, problems
    step = read_progress(last).best_step
    wanted = folder / name_of(step)
    if step < 0 or wanted == last:
        return last, problems
    problem = examine(wanted)
    if problem is None:
        return wanted, problems
    instead = f"{problem}; it validated best, and {last.name} takes its place"
    return last, {**problems, wanted.name: instead}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint.

    Raises:
        ValueError: If there are checkpoints, and none is whole.
    """
    return newest(folder, finished(folder), examined)[0]


def best_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint that validated best, or the newest where none was validated.

    Raises:
        ValueError: If there are checkpoints, and none is whole.
    """
    return best(folder, finished(folder), examined)[0]


def examined(path: Path, *, part: int = 0, parts: int = 1) -> str | None:
    """What is wrong with a checkpoint.

    Raises:
        ValueError: If another version has written it.
    """
    if (path / PROGRESS_FILE).is_file() and not (path / MANIFEST_FILE).is_file():
        _check_version(path)
    return damage(path, part=part, parts=parts)


def _check_version(path: Path) -> None:
    try:
        read_progress(path)
    except TypeError:  # of a version with other entries
        return


def set_aside(folder: Path, names: Iterable[str]) -> None:
    """Rename checkpoints, so that nobody takes them for newer than those that are written now."""
    for path in (folder / name for name in names):
        if path.is_dir():
            target = path.with_name(path.name + DAMAGED)
            shutil.rmtree(target, ignore_errors=True)
            path.rename(target)
