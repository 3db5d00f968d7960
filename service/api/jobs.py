"""The records of jobs: made once per idempotency key, moved only along the state machine."""

import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine, RowMapping, func, insert, select, update
from sqlalchemy.engine import Connection

from service.api.database import events, jobs, one_at_a_time, writing
from service.api.errors import ApiError
from service.api.records import Filter, Happening, NewJob, Record
from service.api.states import FINAL, LIVE, Event, State, after

FOLDERS_AT_ONCE: Final = 1000
"""Databases take only so many values in one question."""


class Jobs:
    """The jobs of the service.

    Args:
        engine: Of the records.
        waiting_per_user: Jobs of a user that may wait.
    """

    def __init__(self, engine: Engine, waiting_per_user: int) -> None:
        self._engine = engine
        self._waiting_per_user = waiting_per_user

    def create(self, new: NewJob) -> tuple[Record, bool]:
        """Write a job down, once per key of its owner; whether it is new.

        Raises:
            ApiError: If the key stands for another request, too many jobs wait, or another job
                writes the same folder.
        """
        with writing(self._engine) as connection:
            one_at_a_time(connection)
            key, sha256 = new.idempotency_key, new.request_sha256
            if found := _submitted(connection, new.owner, key, sha256):
                return found, False
            self._check_waiting(connection, new.owner)
            _check_folder(connection, new.folder)
            values = {name: getattr(new, name) for name in NewJob.__slots__}
            job = {
                **values,
                "arguments": list(new.arguments),
                "id": _new_id(),
                "state": State.QUEUED,
                "attempt": 1,
                "hosts": [],
                "created_at": time.time(),
                "message": "",
            }
            connection.execute(insert(jobs).values(**job))
            _note(connection, job["id"], "submit", State.QUEUED, 1, "")
            return _get(connection, job["id"]), True

    def submitted(self, owner: str, key: str | None, sha256: str) -> Record | None:
        """The job that an owner has submitted with a key.

        Raises:
            ApiError: If the key stands for another request.
        """
        with self._engine.connect() as connection:
            return _submitted(connection, owner, key, sha256)

    def get(self, job: str) -> Record:
        """A job.

        Raises:
            ApiError: If there is none.
        """
        with self._engine.connect() as connection:
            return _get(connection, job)

    def page(self, wanted: Filter, limit: int) -> list[Record]:
        """Jobs, newest first."""
        query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if wanted.name is not None:
            query = query.where(jobs.c.name.contains(wanted.name, autoescape=True))
        exact = {"verb": wanted.verb, "owner": wanted.owner}
        query = query.filter_by(**{name: of for name, of in exact.items() if of is not None})
        if wanted.states:
            query = query.where(jobs.c.state.in_(wanted.states))
        if wanted.before is not None:
            query = query.where(jobs.c.id < wanted.before)
        with self._engine.connect() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def makers(self, folders: Sequence[str]) -> dict[str, Record]:
        """The newest job that writes, or wrote, each of some folders; some have none."""
        found: dict[str, Record] = {}
        with self._engine.connect() as connection:
            for first in range(0, len(folders), FOLDERS_AT_ONCE):
                is_asked = jobs.c.folder.in_(folders[first : first + FOLDERS_AT_ONCE])
                newest = select(func.max(jobs.c.id)).where(is_asked).group_by(jobs.c.folder)
                rows = connection.execute(select(jobs).where(jobs.c.id.in_(newest))).mappings()
                found |= {row["folder"]: _record(row) for row in rows}
        return found

    def unfinished(self) -> list[Record]:
        """Every job that waits or lives: by priority, then by age."""
        query = (
            select(jobs)
            .where(jobs.c.state.in_((State.QUEUED, *LIVE)))
            .order_by(jobs.c.priority.desc(), jobs.c.id)
        )
        with self._engine.connect() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def move(self, job: str, event: Event, message: str = "", **facts: Any) -> Record:
        """Have something happen to a job.

        Raises:
            ApiError: If there is no such job.
            IllegalMove: If it cannot happen to it in its state.
        """
        with writing(self._engine) as connection:
            one_at_a_time(connection)
            before = _get(connection, job)
            state = after(before.state, event)
            if event is Event.RETRY:
                _check_folder(connection, before.folder)
            now = time.time()
            attempt = before.attempt + (state is State.QUEUED)
            values: dict[str, Any] = {"state": state, "message": message, "attempt": attempt}
            if state is State.STARTING:
                values["started_at"] = now
            if state in FINAL:
                values |= {"ended_at": now, "metrics_port": None, "hosts": []}
            if state is State.QUEUED:
                values |= dict.fromkeys(("handle", "started_at", "ended_at", "exit_code"))
                values |= {"hosts": []}
            connection.execute(update(jobs).where(jobs.c.id == job).values(**values | facts))
            _note(connection, job, event, state, attempt, message)
            return _get(connection, job)

    def note_facts(self, job: str, **facts: Any) -> None:
        """Write down what was learned of a job, whose state stays."""
        with writing(self._engine) as connection:
            connection.execute(update(jobs).where(jobs.c.id == job).values(**facts))

    def count(self) -> dict[str, int]:
        """Jobs by state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._engine.connect() as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {state.value: found.get(state, 0) for state in State}

    def oldest_queued_seconds(self) -> float:
        """How long the job that has waited longest waits for its turn; 0 where none does."""
        since = select(func.max(events.c.at)).join(jobs).where(jobs.c.state == State.QUEUED)
        with self._engine.connect() as connection:
            begun = connection.execute(since.group_by(jobs.c.id)).scalars().all()
        return max(time.time() - min(begun), 0.0) if begun else 0.0

    def events(self, job: str) -> list[Happening]:
        """All that happened to a job, in order."""
        query = select(events).where(events.c.job == job).order_by(events.c.id)
        with self._engine.connect() as connection:
            _get(connection, job)
            rows = connection.execute(query).mappings().all()
        names = Happening.__slots__
        found = [{name: row[name] for name in names} for row in rows]
        return [Happening(**line | {"state": State(line["state"])}) for line in found]

    def _check_waiting(self, connection: Connection, owner: str) -> None:
        is_waiting = (jobs.c.owner == owner) & (jobs.c.state == State.QUEUED)
        waiting = len(connection.execute(select(jobs.c.id).where(is_waiting)).all())
        if waiting >= self._waiting_per_user:
            raise ApiError(
                429,
                f"{waiting} jobs of {owner} wait already, expected at most that many",
                "cancel some, or wait",
                {"Retry-After": "60"},
            )


def _submitted(connection: Connection, owner: str, key: str | None, sha256: str) -> Record | None:
    if key is None:
        return None
    is_same = (jobs.c.owner == owner) & (jobs.c.idempotency_key == key)
    row = connection.execute(select(jobs).where(is_same)).mappings().one_or_none()
    if row is not None and row["request_sha256"] != sha256:
        raise ApiError(
            409,
            f"this Idempotency-Key stands for job {row['id']}, which was asked something else",
            "send another key with another request",
        )
    return _record(row) if row is not None else None


def _check_folder(connection: Connection, folder: str | None) -> None:
    if folder is None:
        return
    is_written = (jobs.c.folder == folder) & jobs.c.state.not_in(FINAL)
    if other := connection.execute(select(jobs.c.id).where(is_written)).first():
        raise ApiError(
            409, f"job {other.id} is writing {folder}", "name another output, or wait for it"
        )


def _new_id() -> str:
    """Ids sort by age: microseconds, less than writing a job takes, then chance."""
    return f"j{time.time_ns() // 1000:013x}{secrets.token_hex(3)}"


def _get(connection: Connection, job: str) -> Record:
    row = connection.execute(select(jobs).where(jobs.c.id == job)).mappings().one_or_none()
    if row is None:
        raise ApiError(404, f"there is no job {job}", "GET /api/v1/jobs")
    return _record(row)


def _record(row: RowMapping) -> Record:
    values = {name: row[name] for name in Record.__slots__}
    values["arguments"] = tuple(values["arguments"])
    values["hosts"] = tuple(values["hosts"])
    return Record(**values | {"state": State(values["state"])})


def _note(
    connection: Connection, job: str, event: str, state: State, attempt: int, message: str
) -> None:
    line = {"job": job, "at": time.time(), "event": event, "state": state}
    connection.execute(insert(events).values(**line, attempt=attempt, message=message))
