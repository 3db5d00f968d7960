"""Files of runs and of artifacts, to list and to download."""

import os
import stat
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from service.api.accounts import Account
from service.api.home import Kind, Name
from service.api.service import Served, Service, Viewer

router = APIRouter(tags=["files"])

Called = Annotated[Name, Path(description="Name.")]
Inside = Annotated[str, Path(max_length=512, description="Path within, as the list has it.")]


@router.get("/artifacts/{name}/files")
def artifact_files(service: Served, _account: Viewer, name: Called) -> list[dict[str, Any]]:
    """Files of an artifact."""
    return _files(service, "artifacts", name)


@router.get("/artifacts/{name}/files/{path:path}", response_class=FileResponse)
def download_artifact(service: Served, account: Viewer, name: Called, path: Inside) -> FileResponse:
    """A file of an artifact."""
    return _download(service, account, "artifacts", name, path)


@router.get("/runs/{name}/files")
def run_files(service: Served, _account: Viewer, name: Called) -> list[dict[str, Any]]:
    """Files of a run, checkpoints among them."""
    return _files(service, "runs", name)


@router.get("/runs/{name}/files/{path:path}", response_class=FileResponse)
def download_run(service: Served, account: Viewer, name: Called, path: Inside) -> FileResponse:
    """A file of a run."""
    return _download(service, account, "runs", name, path)


def _files(service: Service, kind: Kind, name: str) -> list[dict[str, Any]]:
    folder = service.home.existing(kind, name)
    found = []
    for place, _, names in os.walk(folder):  # passes over what a training deletes meanwhile
        for path in (FilePath(place, name) for name in names):
            with suppress(FileNotFoundError):
                facts = path.lstat()
                if stat.S_ISREG(facts.st_mode):
                    found.append({"path": str(path.relative_to(folder)), "bytes": facts.st_size})
    return sorted(found, key=lambda file: file["path"].split("/"))


def _download(service: Service, account: Account, kind: Kind, name: str, path: str) -> FileResponse:
    found = service.home.file(kind, name, path)
    service.audit.note(account, f"{kind}.download", f"{name}/{path}"[:128])
    return Snapshot(found, media_type="application/octet-stream", filename=FilePath(path).name)


class Snapshot(FileResponse):
    """A file as long as it was when its length was told, though a training writes on to it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        rest, is_over = 0, False

        async def send_no_more(message: Message) -> None:
            nonlocal rest, is_over
            if is_over:
                return
            if message["type"] == "http.response.start":
                rest = int(Headers(raw=message["headers"])["content-length"])
            else:
                body = message["body"][:rest]
                rest -= len(body)
                is_over = not (rest and message["more_body"])
                message = {**message, "body": body, "more_body": not is_over}
            await send(message)

        await super().__call__(scope, receive, send_no_more)
