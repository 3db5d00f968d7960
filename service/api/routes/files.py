"""Files of runs and of artifacts, to list and to download."""

from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse

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
    return [
        {"path": str(path.relative_to(folder)), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]


def _download(service: Service, account: Account, kind: Kind, name: str, path: str) -> FileResponse:
    found = service.home.file(kind, name, path)
    service.audit.note(account, f"{kind}.download", f"{name}/{path}"[:128])
    return FileResponse(found, media_type="application/octet-stream", filename=FilePath(path).name)
