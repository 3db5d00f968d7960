"""A folder that appears whole or not at all."""

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.data.dataset import DATASET_FILE

AT_FDCWD: Final = -100
"""Linux: names are relative to the working directory."""
RENAME_EXCHANGE: Final = 2


@contextmanager
def staged_folder(output: Path, *, overwrite: bool, mark: str = DATASET_FILE) -> Iterator[Path]:
    """Yield a folder beside ``output`` that takes its place when the block ends without error.

    Args:
        output: The folder to be made.
        overwrite: Whether what is there already may be replaced.
        mark: File by which a folder of the kind that may be replaced is known.

    Raises:
        FileExistsError: If ``output`` exists and may not be replaced.
        OSError: If the folder cannot be written.
    """
    check_output(output, overwrite=overwrite, mark=mark)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{output.name}.partial-", dir=output.parent))
    except OSError as error:
        raise _cannot_write(output, error) from error
    try:
        yield folder
        folder.chmod(0o755)
        _take_place(folder, output, overwrite=overwrite, mark=mark)
    except OSError as error:
        # Errors of the inputs bring their own text; those of the disk only a number.
        raise (_cannot_write(output, error) if error.errno in DISK_ERRORS else error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_output(output: Path, *, overwrite: bool, mark: str = DATASET_FILE) -> None:
    """Refuse to write where something is that is not to be replaced.

    Raises:
        FileExistsError: If ``output`` exists and may not be replaced.
    """
    if not output.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{output} exists; choose another --output or add --overwrite")
    if not (output / mark).is_file():
        kind = Path(mark).stem
        article = "an" if kind[0] in "aeiou" else "a"
        raise FileExistsError(
            f"{output} exists and is not {article} {kind} (it has no {mark}); --overwrite replaces "
            f"{kind}s only, choose another --output"
        )


DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


def _cannot_write(output: Path, error: OSError) -> OSError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    mend = "free some space or choose" if error.errno in DISK_ERRORS else "choose another"
    return OSError(f"{output} cannot be written: {reason}; {mend} --output")


def _take_place(folder: Path, output: Path, *, overwrite: bool, mark: str) -> None:
    """Rename, so that at every moment a whole folder is on disk; what was there is in ``folder``.

    Readers, processes that are killed here, and others that do the same find the old one or the
    new one under its name.
    """
    check_output(output, overwrite=overwrite, mark=mark)
    try:
        folder.rename(output)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    check_output(output, overwrite=overwrite, mark=mark)  # somebody may have been faster
    if not _exchange(folder, output):
        old = folder.with_name(f"{folder.name}-old")
        output.rename(old)
        try:
            folder.rename(output)
        except OSError:
            old.rename(output)
            raise
        old.rename(folder)


def _exchange(first: Path, second: Path) -> bool:
    """Swap the names of two folders in one step; not every system, and file system, can."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(second))
