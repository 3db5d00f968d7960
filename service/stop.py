"""Being told to stop: Ctrl-C, or SIGTERM from a scheduler."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from service.distributed import Ranks

ECHO_SECONDS: Final = 3.0
"""A Ctrl-C that comes again within this time is the same one, passed on by somebody else."""

TURNS_BETWEEN_CHECKS: Final = 10
"""With several ranks, asking whether anyone was told to stop costs a message."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The job was told to stop, and stops.

    Args:
        number: The signal that said so.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.signal = number


class StopRequest:
    """Whether somebody asked this process to stop.

    Args:
        pass_on: Called with every signal that comes; in signal handlers.
    """

    def __init__(self, pass_on: Callable[[signal.Signals], None] | None = None) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0
        self._pass_on = pass_on

    def __bool__(self) -> bool:
        return self.signal is not None

    def check(self, ranks: "Ranks", turn: int = 0) -> None:
        """End here if any rank was told to stop; with several ranks, asked at some turns only.

        Raises:
            Stopped: On all ranks alike.
        """
        if ranks.world_size > 1 and turn % TURNS_BETWEEN_CHECKS:
            return
        if number := ranks.largest(self.signal or 0):
            raise Stopped(signal.Signals(number))

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take note of signals instead of dying of them; a later second Ctrl-C ends at once."""
        previous = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # A terminal sends Ctrl-C to every process, and the launcher sends it to its ranks again.
        is_echo = time.monotonic() - self._since < ECHO_SECONDS
        is_impatient = self.signal is not None and number == signal.SIGINT and not is_echo
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), time.monotonic()
        if self._pass_on is not None:
            self._pass_on(signal.Signals(number))
        if is_impatient:
            raise KeyboardInterrupt
