"""A run's figures for TensorBoard, in ``RUN/tensorboard``."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from service.loggers.base import Record, figures
from service.run_folder import TENSORBOARD


class TensorBoardLogger:
    """Writes the folder anew at every start of a run: lines that count are all given again.

    Event files only grow, so that steps behind the checkpoint that a run resumes from would stand
    in them twice.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
        self._writer = SummaryWriter(str(folder / TENSORBOARD))

    def log(self, records: Sequence[Record]) -> None:
        """Write lines."""
        for record in records:
            for name, value in figures(record).items():
                self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def close(self, *, has_failed: bool) -> None:  # noqa: ARG002
        """Close the file."""
        self._writer.close()
