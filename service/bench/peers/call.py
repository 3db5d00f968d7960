"""One process of a contender: the Python of its environment, a module of this package."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import service

ROOT: Final = Path(service.__file__).parents[1]


def call(
    python: Path, module: str, options: Mapping[str, object], folder: Path, *, threads: int
) -> dict[str, Any]:
    """Run a contender; its last line is the answer.

    Args:
        python: Interpreter of its environment.
        module: Script in this package.
        options: Its arguments by name; None is left out.
        folder: Where it works.
        threads: Threads that libraries may start, where they ask the environment.

    Raises:
        RuntimeError: If it fails.
    """
    arguments = [
        text
        for name, value in options.items()
        if value is not None
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), str(threads))
    done = subprocess.run(
        [str(python), "-m", f"{__package__}.{module}", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | limits,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"contender {module} ended with exit code {done.returncode}; "
            f"its last words: {done.stderr[-2000:]}"
        )
    answer: dict[str, Any] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return answer
