"""The form every logger has, and which there are."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

LoggerName = Literal["tensorboard", "mlflow"]

LOGGERS: Final[Mapping[LoggerName, str]] = MappingProxyType(
    {"tensorboard": "tensorboard", "mlflow": "mlflow"}
)
"""The module that each needs; the extra ``loggers`` brings both."""
PLACE: Final = frozenset({"step", "kind", "epoch"})
"""What a line of ``metrics.jsonl`` is about; everything else in it is a figure."""

Record = Mapping[str, Any]
"""A line of ``metrics.jsonl``."""


class Logger(Protocol):
    """Takes lines as they come; made anew at every start of a run, with all lines so far."""

    def log(self, records: Sequence[Record]) -> None:
        """Pass lines on, all of them or with an error; lines that are there already stay single.

        Raises:
            OSError: If it cannot; the lines come again.
        """

    def close(self, *, has_failed: bool) -> None:
        """End; the run is over, or stops for now."""


def figures(record: Record) -> dict[str, float]:
    """The numbers of a line, each named by what it is a figure of: ``validation/auc``."""
    return {
        f"{record['kind']}/{name}": float(value)
        for name, value in record.items()
        if name not in PLACE and isinstance(value, int | float)
    }


def check_installed(names: Sequence[LoggerName]) -> None:
    """Refuse loggers whose packages are missing, before anything is trained.

    Raises:
        ValueError: If one is.
    """
    for name in names:
        if find_spec(LOGGERS[name]) is None:
            raise ValueError(
                f"log_to={name} needs the package {LOGGERS[name]!r}, which is not installed; "
                f"pip install 'mixdim[loggers]', or leave {name} out of --log-to"
            )
