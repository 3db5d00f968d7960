"""Who is asking; tokens and the audit log, which are an admin's."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.accounts import Role, Token
from service.api.audit import Entry
from service.api.errors import ApiError
from service.api.paging import Limit
from service.api.service import Admin, Served, Viewer

router = APIRouter(tags=["accounts"])

USER = r"^[a-z0-9][a-z0-9._@-]{0,63}$"
LATEST = 4_102_444_800.0
"""The year 2100: whatever is later is a mistake of units."""


class Me(BaseModel):
    """Whoever is asking."""

    name: str
    role: Role


class TokenRequest(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=USER, description="User that it speaks for.")
    role: Role
    expires_at: float | None = Field(
        default=None, ge=0, le=LATEST, allow_inf_nan=False, description="Seconds since 1970."
    )


class NewToken(BaseModel):
    """A new token; its secret is shown this once."""

    token: Token
    secret: str


class AuditPage(BaseModel):
    """Lines of the audit log, newest first."""

    items: list[Entry]
    next_cursor: int | None


@router.get("/me")
def me(account: Viewer) -> Me:
    """Who is asking."""
    return Me(name=account.name, role=account.role)


@router.get("/tokens")
def tokens(service: Served, _account: Admin) -> list[Token]:
    """Every token, revoked ones too, without its secret."""
    return service.accounts.all()


@router.post("/tokens", status_code=201)
def create(service: Served, account: Admin, request: TokenRequest) -> NewToken:
    """Make a token."""
    token, secret = service.accounts.create(request.name, request.role, request.expires_at)
    what = f"for {request.name} as {request.role.value}"
    service.audit.note(account, "tokens.create", token.id, what)
    return NewToken(token=token, secret=secret)


@router.delete("/tokens/{token}", status_code=204)
def revoke(
    service: Served, account: Admin, token: Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]
) -> None:
    """Revoke a token, at once."""
    if not service.accounts.revoke(token):
        raise ApiError(404, f"there is no token {token} to revoke", "GET /api/v1/tokens")
    service.audit.note(account, "tokens.revoke", token)


@router.get("/audit")
def audit(
    service: Served,
    _account: Admin,
    limit: Limit = 50,
    cursor: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> AuditPage:
    """Who did what."""
    found = service.audit.page(limit + 1, cursor)
    items, more = found[:limit], found[limit:]
    return AuditPage(items=items, next_cursor=items[-1].id if more else None)
