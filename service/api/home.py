"""The folder of a service: what is in it, by name, and nothing outside of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import StringConstraints

from service.api.errors import ApiError

NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
UPLOAD: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,3}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
"""A dataset, sizing, run, frontier or artifact, as requests and addresses name it."""
Upload = Annotated[str, StringConstraints(pattern=UPLOAD)]
"""A raw file below the uploads."""
Kind = Literal["datasets", "sizings", "runs", "frontiers", "artifacts", "uploads"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
JOBS: Final = "jobs"
SIZING_FILE: Final = "sizing.json"


class Home:
    """The folder of a service.

    Args:
        path: Of it; made with its parts where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        for name in (*KINDS, JOBS):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def jobs(self) -> Path:
        """Folder of the jobs."""
        return self.path / JOBS

    def place(self, kind: Kind, name: str) -> Path:
        """Where something is, or would be.

        Raises:
            ApiError: If it is no name, or a link leads elsewhere.
        """
        if not re.fullmatch(UPLOAD if kind == "uploads" else NAME, name):
            raise ApiError(422, f"{name[:80]!r} cannot name one of the {kind}")
        return _inside(self.path / kind, name)

    def existing(self, kind: Kind, name: str) -> Path:
        """Where something is.

        Raises:
            ApiError: If there is no such thing.
        """
        path = self.place(kind, name)
        if not path.exists():
            raise ApiError(404, f"there is no {name!r} among the {kind}", f"GET /api/v1/{kind}")
        return path

    def names(self, kind: Kind, *markers: str) -> Iterator[str]:
        """Names of what is there, in order; with markers, of folders that hold such a file."""
        for path in sorted((self.path / kind).iterdir()):
            if markers and not any((path / marker).is_file() for marker in markers):
                continue
            if re.fullmatch(NAME, path.name):
                yield path.name

    def file(self, kind: Kind, name: str, path: str) -> Path:
        """A file of something.

        Raises:
            ApiError: If there is none, or it lies elsewhere.
        """
        found = _inside(self.existing(kind, name), path)
        if not _is_file(found):
            raise ApiError(404, f"there is no such file in {name!r}")
        return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _inside(folder: Path, path: str) -> Path:
    """A path below a folder, links followed.

    Raises:
        ApiError: If it is not below the folder.
    """
    if "\0" in path:
        raise ApiError(404, "there is no such file")
    try:
        found = (folder / path).resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise ApiError(404, "there is no such file") from None
    if not found.is_relative_to(folder.resolve()) or found == folder.resolve():
        raise ApiError(404, "there is no such file")
    return found
