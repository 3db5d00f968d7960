"""The parts of a running service, and who may ask it for what."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated
from weakref import WeakSet

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine

from service.api.accounts import Account, Accounts, Role
from service.api.audit import Audit
from service.api.config import ServiceConfig
from service.api.errors import ApiError
from service.api.home import Home
from service.api.jobs import Jobs
from service.api.scheduler import Scheduler
from service.api.uploads import Uploads
from service.jobs.launcher import Launcher
from service.metrics import ServiceMetrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """Everything that answers need."""

    config: ServiceConfig
    engine: Engine
    home: Home
    uploads: Uploads
    jobs: Jobs
    accounts: Accounts
    audit: Audit
    launchers: Mapping[str, Launcher]
    scheduler: Scheduler
    metrics: ServiceMetrics
    streams: dict[str, "WeakSet[AsyncIterator[bytes]]"] = field(
        default_factory=lambda: defaultdict(WeakSet)
    )
    """Logs that each user follows; those that have ended, begun or not, leave by themselves."""


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]
_bearer = HTTPBearer(auto_error=False, description="A token of `mixdim token create`.")
Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _needs(role: Role) -> Callable[..., Account]:
    def account(request: Request, service: Served, shown: Shown) -> Account:
        found = service.accounts.find(shown.credentials) if shown is not None else None
        if found is None:
            raise ApiError(
                401,
                "this needs a token that is known, not expired and not revoked",
                "send Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        request.state.account = found  # for the guards, which count by token
        if not found.role.may(role):
            raise ApiError(403, f"this needs the role {role.value}, yours is {found.role.value}")
        return found

    return account


Viewer = Annotated[Account, Depends(_needs(Role.VIEWER))]
Submitter = Annotated[Account, Depends(_needs(Role.SUBMITTER))]
Admin = Annotated[Account, Depends(_needs(Role.ADMIN))]


def check_owner(account: Account, owner: str) -> None:
    """Refuse whoever is neither the owner of something nor an admin.

    Raises:
        ApiError: If it is somebody else's.
    """
    if account.name != owner and not account.role.may(Role.ADMIN):
        raise ApiError(403, f"this is {owner}'s, and you are {account.name}")
