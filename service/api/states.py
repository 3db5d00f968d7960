"""The life of a job: every state, what can happen in it, and what it becomes then.

`starting` is written down before a launcher is called, and launchers begin a job once per key.
Whoever finds a job in a state that is not final, may so go on from there: see `scheduler`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    """Waits for its turn."""
    STARTING = "starting"
    """May have been handed to its launcher, or not yet."""
    RUNNING = "running"
    """Its launcher has it."""
    CANCELLING = "cancelling"
    """Somebody wants it to end, and it has not yet."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What happens to a job."""

    START = "start"
    RUN = "run"
    CANCEL = "cancel"
    SUCCEED = "succeed"
    FAIL = "fail"
    END = "end"
    """It has ended because somebody wanted it to."""
    RETRY = "retry"
    """Somebody wants a job again that has ended."""
    AGAIN = "again"
    """It could not begin for a reason that another start will not meet."""


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.QUEUED, Event.START): State.STARTING,
        (State.QUEUED, Event.CANCEL): State.CANCELLED,
        (State.STARTING, Event.RUN): State.RUNNING,
        (State.STARTING, Event.CANCEL): State.CANCELLING,
        (State.STARTING, Event.FAIL): State.FAILED,
        (State.RUNNING, Event.CANCEL): State.CANCELLING,
        (State.RUNNING, Event.SUCCEED): State.SUCCEEDED,
        (State.RUNNING, Event.FAIL): State.FAILED,
        (State.RUNNING, Event.END): State.CANCELLED,
        (State.RUNNING, Event.AGAIN): State.QUEUED,
        (State.CANCELLING, Event.SUCCEED): State.SUCCEEDED,  # it was faster
        (State.CANCELLING, Event.FAIL): State.FAILED,
        (State.CANCELLING, Event.END): State.CANCELLED,
        (State.FAILED, Event.RETRY): State.QUEUED,
        (State.CANCELLED, Event.RETRY): State.QUEUED,
    }
)
"""All there is; whatever is not here cannot happen."""

LIVE: Final = (State.STARTING, State.RUNNING, State.CANCELLING)
"""States in which a launcher may have the job."""
FINAL: Final = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class IllegalMove(Exception):  # noqa: N818 - it names what was tried
    """Something that cannot happen to a job in its state."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"the job is {state.value}, and cannot {event.value}")
        self.state, self.event = state, event


def after(state: State, event: Event) -> State:
    """What a job becomes.

    Raises:
        IllegalMove: If that cannot happen to it now.
    """
    if (state, event) not in TRANSITIONS:
        raise IllegalMove(state, event)
    return TRANSITIONS[state, event]
