"""Pass on what is written to ``metrics.jsonl``, beside the training and never in its way."""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from service.config import TrainConfig
from service.loggers.base import Logger, LoggerName, Record, check_installed
from service.run_folder import METRICS_FILE, RunFolder

logger = logging.getLogger(__name__)

SECONDS_TO_END: Final = 60.0
"""How long the end of a run waits for the last lines to be passed on."""

Make = Callable[[], Logger]


class Followers:
    """A thread a logger, which reads the file on from where it was, whenever there is news.

    A logger that is away (a server that is down, a full disk) is asked again at the next line, so
    nothing is lost while it comes back before the end; training never waits for it.

    Args:
        config: The run; says which loggers.
        folder: Its folder; ``metrics.jsonl`` in it holds the lines that count.

    Raises:
        ValueError: If a logger's package is missing.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder) -> None:
        check_installed(config.log_to)
        makers: Mapping[LoggerName, Make] = {
            "tensorboard": lambda: _tensorboard(folder.path),
            "mlflow": lambda: _mlflow(config, folder),
        }
        path = folder.path / METRICS_FILE
        self._followers = [_Follower(name, makers[name], path) for name in config.log_to]

    def __enter__(self) -> Self:
        for follower in self._followers:
            follower.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for follower in self._followers:
            follower.end(has_failed=error is not None)

    def notify(self) -> None:
        """Say that there are lines to be passed on."""
        for follower in self._followers:
            follower.news.set()


class _Follower(threading.Thread):
    def __init__(self, name: str, make: Make, path: Path) -> None:
        super().__init__(name=f"log-to-{name}", daemon=True)
        self.news = threading.Event()
        self._make, self._path = make, path
        self._logger: Logger | None = None
        self._at = 0
        self._is_over = self._has_failed = self._has_complained = False
        self.news.set()  # lines that an earlier start of the run has left

    def run(self) -> None:
        """Pass lines on until told to end."""
        is_over = False
        while not is_over:
            self.news.wait()
            self.news.clear()
            is_over = self._is_over  # before the last look at the file, not behind it
            self._catch_up()
        if self._logger is not None:
            try:
                self._logger.close(has_failed=self._has_failed)
            except OSError as error:
                self._complain(error)

    def end(self, *, has_failed: bool) -> None:
        """Pass the last lines on, and end."""
        self._is_over, self._has_failed = True, has_failed
        self.news.set()
        self.join(SECONDS_TO_END)
        if self.is_alive():
            logger.warning(
                "%s did not take the last lines within %.0f s; all of them are in %s",
                *(self.name, SECONDS_TO_END, self._path),
            )

    def _catch_up(self) -> None:
        try:
            if self._logger is None:
                self._logger = self._make()
            records, end = _lines(self._path, self._at)
            if records:
                self._logger.log(records)
            self._at = end
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            logger.warning(
                "%s: %s; training goes on, lines wait in %s", self.name, error, self._path
            )
        self._has_complained = True


def _lines(path: Path, start: int) -> tuple[list[Record], int]:
    """Whole lines from a byte on, and the byte behind them."""
    if not path.is_file():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    records: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
    return list(records), start + len(whole)


def _tensorboard(folder: Path) -> Logger:
    from service.loggers.tensorboard import TensorBoardLogger

    return TensorBoardLogger(folder)


def _mlflow(config: TrainConfig, folder: RunFolder) -> Logger:
    from service.loggers.mlflow import MLflowLogger

    return MLflowLogger(config, folder)
