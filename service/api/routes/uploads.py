"""Raw logs for `prepare`: send, list, remove."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from service.api.accounts import Role
from service.api.errors import ApiError
from service.api.home import UPLOAD
from service.api.paging import Listed
from service.api.service import Served, Service, Submitter, Viewer, check_owner

router = APIRouter(prefix="/uploads", tags=["uploads"])

SENT: Final = "uploads.send"
REMOVED: Final = "uploads.remove"
Sent = Annotated[
    str,
    Path(pattern=UPLOAD, max_length=128, description="Name, with at most three folders before."),
]
BINARY: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


class Upload(BaseModel):
    """A raw file; one that the operator has put there has no owner."""

    name: str
    bytes: int
    owner: str | None


class UploadPage(BaseModel):
    """Raw files, by name."""

    items: list[Upload]
    next_cursor: str | None


@router.get("")
def uploads(service: Served, _account: Viewer, wanted: Listed) -> UploadPage:
    """Raw files, by name."""
    shown, more = wanted.page(service.uploads.names())
    owners = _owners(service, shown)
    items = [
        Upload(name=name, bytes=service.uploads.num_bytes(name), owner=owners.get(name))
        for name in shown
    ]
    return UploadPage(items=items, next_cursor=more)


@router.put(
    "/{name:path}",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": BINARY}},
)
async def send(service: Served, account: Submitter, name: Sent, request: Request) -> Upload:
    """Send a raw file: the body is its content, of any length up to the service's limit."""
    try:
        num_bytes = await service.uploads.receive(name, request.stream())
    except ClientDisconnect:
        raise ApiError(400, "the connection broke before all had come", "send it again") from None
    await asyncio.to_thread(service.audit.note, account, SENT, name)
    return Upload(name=name, bytes=num_bytes, owner=account.name)


@router.delete("/{name:path}", status_code=204)
def remove(service: Served, account: Submitter, name: Sent) -> None:
    """Remove a raw file that one has sent, and that no job is to read; an admin, any one."""
    service.uploads.find(name)
    try:
        if not account.role.may(Role.ADMIN):
            check_owner(account, _owners(service, [name]).get(name, "the operator"))
        _check_unread(service, name)
        service.uploads.remove(name)
    except ApiError as error:
        service.audit.note(account, REMOVED, name, f"refused: {error.message}")
        raise
    service.audit.note(account, REMOVED, name)


def _owners(service: Service, names: list[str]) -> dict[str, str]:
    """Who has sent which of the files, as the audit log has it."""
    last = service.audit.last_done((SENT, REMOVED), names)
    return {name: line.who for name, line in last.items() if line.action == SENT}


def _check_unread(service: Service, name: str) -> None:
    for job in service.jobs.unfinished():
        options = job.request.get("options", {}).values()
        if name in (*job.request.get("inputs", ()), *options):
            raise ApiError(409, f"job {job.id} is to read {name!r}", "wait for it, or cancel it")
