"""What is written down of jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.api.states import State


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """A job that was asked for and found in order."""

    owner: str
    name: str
    verb: str
    arguments: Sequence[str]
    request: Mapping[str, Any]
    request_sha256: str
    idempotency_key: str | None = None
    priority: int = 0
    scheduler: str = "local"
    num_gpus: int = 0
    num_ports: int = 0
    """Ports that its ranks serve metrics on, on each machine."""
    folder: str | None = None
    """What it writes, as KIND/NAME."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A job as it is written down."""

    id: str
    owner: str
    request_sha256: str
    request: Mapping[str, Any]
    name: str
    verb: str
    arguments: tuple[str, ...]
    state: State
    priority: int
    scheduler: str
    num_gpus: int
    num_ports: int
    folder: str | None
    metrics_port: int | None
    attempt: int
    handle: str | None
    hosts: tuple[str, ...]
    created_at: float
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    message: str
    idempotency_key: str | None = None

    @property
    def key(self) -> str:
        """What its launcher knows this attempt by."""
        return self.id if self.attempt == 1 else f"{self.id}-{self.attempt}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which jobs to list."""

    states: Sequence[State] = ()
    verb: str | None = None
    owner: str | None = None
    name: str | None = None
    before: str | None = None
    """Only jobs that are older than this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Happening:
    """Something that happened to a job."""

    at: float
    event: str
    state: State
    attempt: int
    message: str
