"""The audit log: who did what to what, whatever came of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, insert, select

from service.api.accounts import Account
from service.api.database import audit, writing

DONE = "done"
MAX_OUTCOME = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the log."""

    id: int
    at: float
    who: str
    token: str
    action: str
    target: str
    outcome: str


class Audit:
    """The log; lines are only ever added.

    Args:
        engine: Of the records.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, account: Account, action: str, target: str, outcome: str = DONE) -> None:
        """Add a line."""
        line: dict[str, Any] = {
            "at": time.time(),
            "who": account.name,
            "token": account.token,
            "action": action,
            "target": target,
            "outcome": outcome[:MAX_OUTCOME],
        }
        with writing(self._engine) as connection:
            connection.execute(insert(audit).values(**line))

    def last_done(self, actions: Sequence[str], targets: Sequence[str]) -> dict[str, Entry]:
        """By target, the newest line of some actions that were not refused."""
        is_meant = audit.c.action.in_(actions) & audit.c.target.in_(targets)
        newest = select(func.max(audit.c.id)).where(is_meant & (audit.c.outcome == DONE))
        query = select(audit).where(audit.c.id.in_(newest.group_by(audit.c.target)))
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return {row["target"]: Entry(**dict(row)) for row in rows}

    def page(self, limit: int, before: int | None) -> list[Entry]:
        """Lines, newest first, before one of them."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [Entry(**dict(row)) for row in rows]
