"""What machines ask: is it alive, is it ready, what does it measure, where are the ranks."""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import select

from service.api.errors import ApiError
from service.api.service import Served, Viewer
from service.api.states import State

open_router = APIRouter(tags=["system"])
router = APIRouter(tags=["system"])


@open_router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@open_router.get("/readyz")
def readyz(service: Served) -> dict[str, str]:
    """Whether records can be reached and jobs are looked after."""
    with service.engine.connect() as connection:
        connection.execute(select(1))
    if not service.scheduler.is_alive:
        raise ApiError(503, "jobs are not looked after")
    return {"status": "ready"}


@open_router.get("/metrics", response_class=Response)
def metrics(service: Served, _account: Viewer) -> Response:
    """What the service tells Prometheus; with a token."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/discovery")
def discovery(service: Served, _account: Viewer) -> list[dict[str, Any]]:
    """The live ranks, as Prometheus' HTTP service discovery wants them."""
    groups = []
    for job in service.jobs.unfinished():
        if job.metrics_port is None or job.state is State.QUEUED:
            continue
        kind, _, made = (job.folder or "").partition("/")
        for node, host in enumerate(job.hosts):
            for local in range(job.num_ports):
                labels = {
                    "job_id": job.id,  # `job` is Prometheus' own label
                    "name": job.name,
                    "run": made if kind == "runs" else "",
                    "rank": str(node * job.num_ports + local),
                    "owner": job.owner,
                }
                target = f"{host}:{job.metrics_port + local}"
                groups.append({"targets": [target], "labels": labels})
    service.metrics.live_ranks.set(len(groups))
    return groups
