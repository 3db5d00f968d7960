"""Who may do what: bearer tokens, kept as hashes, and their roles."""

import hashlib
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Select, func, insert, select, update

from service.api.database import tokens, writing

PREFIX: Final = "mixdim_"
"""What tokens begin with, so that scanners for leaked secrets know them."""


class Role(StrEnum):
    """What a token may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Read everything but tokens and the audit log."""
    SUBMITTER = "submitter"
    """Start jobs, and end one's own."""
    ADMIN = "admin"
    """End everybody's jobs, make and revoke tokens, read the audit log."""

    def may(self, role: "Role") -> bool:
        """Whether it includes another role."""
        order = list(Role)
        return order.index(self) >= order.index(role)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Whoever sent a request."""

    token: str
    """Id of the token, which is no secret."""
    name: str
    role: Role


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A token without its secret."""

    id: str
    name: str
    """User that it speaks for; jobs and limits go by this name."""
    role: Role
    created_at: float
    """Seconds since 1970, like all times of the service."""
    expires_at: float | None
    revoked_at: float | None


class Accounts:
    """The tokens of the service.

    Args:
        engine: Of the records.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, role: Role, expires_at: float | None = None) -> tuple[Token, str]:
        """Make a token; its secret is nowhere but in the answer."""
        secret = PREFIX + secrets.token_urlsafe(32)
        token = Token(
            id=secrets.token_hex(8),
            name=name,
            role=role,
            created_at=time.time(),
            expires_at=expires_at,
            revoked_at=None,
        )
        values = {key: getattr(token, key) for key in Token.__slots__}
        with writing(self._engine) as connection:
            connection.execute(insert(tokens).values(**values, sha256=_hash(secret)))
        return token, secret

    def find(self, secret: str) -> Account | None:
        """Whoever a secret belongs to, unless it is unknown, expired or revoked."""
        with self._engine.connect() as connection:
            row = connection.execute(_good(tokens.c.sha256 == _hash(secret))).one_or_none()
        return Account(token=row.id, name=row.name, role=Role(row.role)) if row else None

    def is_good(self, token: str) -> bool:
        """Whether a token may still be used."""
        with self._engine.connect() as connection:
            return connection.execute(_good(tokens.c.id == token)).one_or_none() is not None

    def all(self) -> list[Token]:
        """Every token that there ever was, newest first."""
        query = select(tokens).order_by(tokens.c.created_at.desc())
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [_token(dict(row)) for row in rows]

    def are_none(self) -> bool:
        """Whether nobody can use the service yet."""
        with self._engine.connect() as connection:
            return not connection.execute(select(func.count()).select_from(tokens)).scalar()

    def revoke(self, token: str) -> bool:
        """End a token at once; False if there is none, or it has ended before."""
        which = (tokens.c.id == token) & tokens.c.revoked_at.is_(None)
        with writing(self._engine) as connection:
            done = connection.execute(update(tokens).where(which).values(revoked_at=time.time()))
        return done.rowcount == 1


def _good(which: ColumnElement[bool]) -> Select[Any]:
    is_due = tokens.c.expires_at.is_(None) | (tokens.c.expires_at > time.time())
    return select(tokens).where(which & tokens.c.revoked_at.is_(None) & is_due)


def _hash(secret: str) -> str:
    """Of 256 random bits, which need no salt and no slow hash."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def _token(row: dict[str, object]) -> Token:
    kept = {key: row[key] for key in Token.__slots__}
    return Token(**kept | {"role": Role(str(row["role"]))})  # type: ignore[arg-type]
