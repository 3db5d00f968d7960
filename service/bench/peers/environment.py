"""Virtual environments of the contenders: one each, made once, never the product's own."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

MARKER: Final = "installed.txt"
"""What an environment was made of; written last, so that a broken one is made again."""

Installs = Sequence[Sequence[str]]
"""Arguments of one ``pip install`` after the other."""


def environment(folder: Path, installs: Installs) -> Path:
    """The Python of a contender's environment, made in ``folder`` unless it is there already.

    Raises:
        RuntimeError: If pip cannot install what the contender needs.
    """
    python, marker = folder / "bin" / "python", folder / MARKER
    wanted = "".join(f"{' '.join(install)}\n" for install in installs)
    if marker.is_file() and marker.read_text() == wanted:
        return python.absolute()
    logger.info("making the environment %s", folder)
    _call([sys.executable, "-m", "venv", "--clear", str(folder)], folder)
    for install in installs:
        _call([str(python), "-m", "pip", "install", "--quiet", *install], folder)
    marker.write_text(wanted)
    return python.absolute()


def _call(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"the environment {folder} could not be made: `{' '.join(command)}` ended with "
            f"{done.returncode}: {done.stderr[-2000:]}"
        )
