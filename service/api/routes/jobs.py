"""Jobs: submit, list, read, cancel, start again; their events and logs."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from deploy.resources import find_resource
from service.api import logs
from service.api.asked import JobRequest, Verb, as_content, digest
from service.api.errors import ApiError
from service.api.home import Kind
from service.api.paging import Limit, Part
from service.api.records import Filter, Happening, NewJob, Record
from service.api.runs import Progress, progress_of
from service.api.scheduler import LOCAL, as_job
from service.api.service import Served, Service, Submitter, Viewer, check_owner
from service.api.states import Event, IllegalMove, State
from service.api.verbs import plan

router = APIRouter(prefix="/jobs", tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^j[0-9a-f]{19}$", description="Of a job.")]
Key = Annotated[str | None, Header(pattern=r"^[\x21-\x7e]{1,128}$")]
MAX_OFFSET = 2**53


class JobView(BaseModel):
    """A job; times are seconds since 1970."""

    id: str
    name: str
    verb: str
    command: list[str]
    state: State
    owner: str
    priority: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    message: str
    run: str | None
    output: str | None
    progress: Progress | None
    attempts: int
    scheduler: str
    handle: str | None
    request: dict[str, Any]


class JobPage(BaseModel):
    """Jobs, newest first."""

    items: list[JobView]
    next_cursor: str | None


@router.post("", status_code=201, responses={200: {"description": "It was submitted before."}})
def submit(
    service: Served,
    account: Submitter,
    request: JobRequest,
    response: Response,
    idempotency_key: Key = None,
) -> JobView:
    """Submit a job; with the same Idempotency-Key, once."""
    sha256 = digest(request)
    job = service.jobs.submitted(account.name, idempotency_key, sha256)
    if job is None:
        asked = _checked(service, request, account)
        new = NewJob(**asked, request_sha256=sha256, idempotency_key=idempotency_key)
        job, is_new = service.jobs.create(new)
        if is_new:
            service.audit.note(account, "jobs.submit", job.id)
            service.scheduler.wake()
            return view(service, job)
    response.status_code = 200
    return view(service, job)


@router.get("")
def page(
    service: Served,
    _account: Viewer,
    state: Annotated[list[State] | None, Query()] = None,
    verb: Verb | None = None,
    owner: Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9._@-]{0,63}$")] = None,
    name: Part = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(pattern=r"^j[0-9a-f]{19}$")] = None,
) -> JobPage:
    """Jobs, newest first."""
    wanted = Filter(states=state or (), verb=verb, owner=owner, name=name, before=cursor)
    found = service.jobs.page(wanted, limit + 1)
    items, more = found[:limit], found[limit:]
    return JobPage(
        items=[view(service, job) for job in items], next_cursor=items[-1].id if more else None
    )


@router.get("/{job}")
def read(service: Served, _account: Viewer, job: JobId) -> JobView:
    """A job."""
    return view(service, service.jobs.get(job))


@router.post("/{job}/cancel")
def cancel(service: Served, account: Submitter, job: JobId) -> JobView:
    """End a job; one that runs gets time for a checkpoint."""
    return _move(service, account, job, Event.CANCEL)


@router.post("/{job}/retry")
def retry(service: Served, account: Submitter, job: JobId) -> JobView:
    """Start a job again that has failed or was cancelled; trainings go on where they were."""
    return _move(service, account, job, Event.RETRY)


@router.get("/{job}/events")
def events(service: Served, _account: Viewer, job: JobId) -> list[Happening]:
    """All that happened to a job."""
    return service.jobs.events(job)


@router.get(
    "/{job}/logs",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "text/event-stream": {}}}},
)
def read_logs(
    service: Served,
    account: Viewer,
    job: JobId,
    follow: bool = False,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
) -> Response:
    """A job's log from an offset on; with follow, as server-sent events until it ends."""
    found = service.jobs.get(job)
    if not follow:
        lines = logs.lines_from(service, found, offset, None)
        text = b"".join(line.encode(errors="surrogateescape") + b"\n" for line in lines)
        return Response(text, media_type="text/plain")
    streams = service.streams[account.name]
    if len(streams) >= service.config.limits.followers_per_user:
        message = f"{account.name} follows {len(streams)} logs, expected at most that many"
        raise ApiError(429, message, "close one, or read without follow", {"Retry-After": "1"})
    still = service.accounts.is_good
    stream = logs.follow(service, found, offset, lambda: still(account.token))
    streams.add(stream)
    return StreamingResponse(stream, media_type="text/event-stream")


def view(service: Service, job: Record) -> JobView:
    """A job as it is shown."""
    kind, _, name = (job.folder or "").partition("/")
    run = name if kind == "runs" else job.request.get("run")
    is_training = kind == "runs" and job.state in (State.RUNNING, State.CANCELLING)
    progress = progress_of(service.home.path / "runs" / name) if is_training else None
    launched = as_job(job, service.config)
    shared = {key: getattr(job, key) for key in JobView.model_fields.keys() & Record.__slots__}
    return JobView(
        **shared,
        command=["mixdim", launched.verb, *launched.arguments],
        run=run,
        output=name or None,
        progress=progress,
        attempts=job.attempt,
    )


def _move(service: Service, account: Submitter, job: str, event: Event) -> JobView:
    found = service.jobs.get(job)
    action = f"jobs.{event.value}"
    try:
        check_owner(account, found.owner)
        moved = service.jobs.move(job, event)
    except IllegalMove as error:
        service.audit.note(account, action, job, f"refused: it was {error.state.value}")
        raise ApiError(409, str(error)) from error
    except ApiError as error:
        service.audit.note(account, action, job, f"refused: {error.message}")
        raise
    service.audit.note(account, action, job)
    service.scheduler.wake()
    return view(service, moved)


def _checked(service: Service, request: JobRequest, account: Submitter) -> dict[str, Any]:
    """What to write down of a request that is in order."""
    scheduler = request.scheduler or service.config.schedulers[0]
    if scheduler not in service.launchers:
        raise ApiError(422, f"scheduler: expected one of {', '.join(service.launchers)}")
    if request.image is not None and request.image not in service.config.images:
        raise ApiError(422, f"image: expected one of {', '.join(service.config.images)}")
    if scheduler == LOCAL and request.nodes > 1:
        raise ApiError(422, f"nodes={request.nodes} on one machine, expected 1")
    name = request.name or "-".join(filter(None, (request.verb, request.preset or request.method)))
    planned = plan(request, service.home, name)
    if planned.folder is not None:
        _check_output(service, request, planned.folder, account)
    return {
        "owner": account.name,
        "name": name,
        "verb": request.verb,
        "arguments": planned.arguments,
        "request": as_content(request),
        "priority": request.priority,
        "scheduler": scheduler,
        "num_gpus": _num_gpus(request, service.config.limits.gpus_per_user),
        "num_ports": request.ranks_per_node if planned.serves_metrics else 0,
        "folder": "/".join(planned.folder) if planned.folder else None,
    }


def _num_gpus(request: JobRequest, most: int) -> int:
    try:
        num_gpus = request.nodes * find_resource(request.host).gpu
    except ValueError as error:
        raise ApiError(422, str(error)) from error
    if num_gpus > most:
        raise ApiError(422, f"nodes x GPUs = {num_gpus}, expected at most {most} for one user")
    return num_gpus


def _check_output(
    service: Service, request: JobRequest, folder: tuple[Kind, str], account: Submitter
) -> None:
    """Refuse to write over what is there, and over what is somebody else's."""
    kind, name = folder
    path = service.home.place(kind, name)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not any(request.options.get(flag) is True for flag in ("resume", "overwrite")):
        hint = "name another output, or say resume or overwrite where the verb has them"
        raise ApiError(409, f"{name!r} is among the {kind} already", hint)
    maker = service.jobs.makers([f"{kind}/{name}"]).get(f"{kind}/{name}")
    check_owner(account, maker.owner if maker else "the operator")
