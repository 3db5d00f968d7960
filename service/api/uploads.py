"""Raw logs that are sent to the service: they come whole, or not at all."""

import asyncio
import errno
import os
import re
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.api.errors import ApiError
from service.api.home import UPLOAD, Home

ARRIVING: Final = ".arriving"
"""Folder of what has not come whole yet; no request can name it."""
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Uploads:
    """The raw logs of a service; those that the operator has put there are among them.

    Args:
        home: Whose uploads.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.path / "uploads"
        self._arriving = self._folder / ARRIVING
        self._lock = threading.Lock()

    def sweep(self) -> None:
        """Remove what was arriving when the service was killed."""
        self._arriving.mkdir(mode=0o700, exist_ok=True)
        for draft in self._arriving.iterdir():
            draft.unlink()

    def names(self) -> Iterator[str]:
        """Every file, in order; links are not among them."""
        found = (path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*"))
        for name in sorted(name for name in found if re.fullmatch(UPLOAD, name)):
            path = self._folder / name
            if path.is_file() and not path.is_symlink():
                yield name

    def num_bytes(self, name: str) -> int:
        """Size of a file; 0 where it has just gone."""
        with suppress(OSError):
            return (self._folder / name).stat().st_size
        return 0

    async def receive(self, name: str, parts: AsyncIterator[bytes]) -> int:
        """Write a file as it comes, under its name once it is whole; return its bytes.

        Raises:
            ApiError: If there is such a file already, or no room.
        """
        self._check_free(name)
        draft = self._arriving / secrets.token_hex(16)
        try:
            with draft.open("xb") as file:
                async for part in parts:
                    await asyncio.to_thread(file.write, part)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
                num_bytes = file.tell()
            await asyncio.to_thread(self._keep, draft, name)
        except OSError as error:
            if error.errno in FULL:
                raise ApiError(507, "there is no room for it", "ask the operator") from error
            said = f"{name!r} cannot be kept: {error.strerror}"
            raise ApiError(409, said, "give it another name") from error
        finally:
            draft.unlink(missing_ok=True)
        return num_bytes

    def find(self, name: str) -> Path:
        """A file.

        Raises:
            ApiError: If there is none.
        """
        path = self._home.existing("uploads", name)
        if not path.is_file():
            raise ApiError(404, f"{name!r} is no file", "GET /api/v1/uploads")
        return path

    def remove(self, name: str) -> None:
        """Remove a file, and the folders that are empty then.

        Raises:
            ApiError: If there is none.
        """
        path = self.find(name)
        with self._lock:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # a folder that is not empty stays
                for folder in path.relative_to(self._folder).parents[:-1]:
                    (self._folder / folder).rmdir()

    def _keep(self, draft: Path, name: str) -> None:
        with self._lock:  # of many who send a name, the first that is whole gets it
            self._check_free(name)
            path = self._home.place("uploads", name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.rename(path)

    def _check_free(self, name: str) -> None:
        if self._home.place("uploads", name).exists():
            hint = "DELETE it first, or give it another name"
            raise ApiError(409, f"{name!r} is among the uploads already", hint)
