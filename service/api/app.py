"""The service put together: records, launchers, routes, guards."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from service import __version__
from service.api import errors
from service.api.accounts import Accounts
from service.api.audit import Audit
from service.api.config import ServiceConfig
from service.api.errors import ErrorBody
from service.api.guards import Guards
from service.api.home import Home
from service.api.jobs import Jobs
from service.api.routes import accounts, files, jobs, system, things, uploads
from service.api.scheduler import Scheduler
from service.api.service import Service
from service.api.uploads import Uploads
from service.jobs.launcher import Launcher
from service.metrics import JobCounts, ServiceMetrics

API = "/api/v1"
PAGE = Path(__file__).with_name("page")
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": said}
    for status, said in (
        (400, "The body cannot be read."),
        (401, "No token, or one that is not good."),
        (403, "The token's role, or its user, may not."),
        (404, "There is no such thing."),
        (409, "It contradicts what is there."),
        (413, "The body is too large."),
        (422, "Something is not in order; the message says what."),
        (429, "Too many requests, or too many jobs."),
        (503, "The records cannot be reached."),
        (507, "The disk is full."),
    )
}


def build(config: ServiceConfig, engine: Engine, launchers: Mapping[str, Launcher]) -> FastAPI:
    """The application; its scheduler takes turns while it is served.

    Args:
        config: Limits and places.
        engine: Records, at the newest revision.
        launchers: By the name of their scheduler.
    """
    metrics = ServiceMetrics(CollectorRegistry())
    records = Jobs(engine, config.limits.waiting_per_user)
    metrics.registry.register(JobCounts(records.count, records.oldest_queued_seconds))
    home = Home(config.home)
    service = Service(
        config=config,
        engine=engine,
        home=home,
        uploads=Uploads(home),
        jobs=records,
        accounts=Accounts(engine),
        audit=Audit(engine),
        launchers=launchers,
        scheduler=Scheduler(records, launchers, config, metrics),
        metrics=metrics,
    )
    app = FastAPI(
        title="MixDim",
        summary="Trainings of click and rating models: submit, watch, compare, download.",
        version=__version__,
        docs_url=None,  # their pages load scripts from other hosts
        redoc_url=None,
        lifespan=_lifespan,
        max_body_size=config.limits.body_bytes,
        responses=REFUSALS,
    )
    app.state.service = service
    errors.install(app)
    for router in (accounts.router, jobs.router, things.router, files.router, system.router):
        app.include_router(router, prefix=API)
    most = config.limits.upload_bytes
    app.include_router(uploads.router, prefix=API, max_body_size=most)
    app.include_router(system.open_router)
    _serve_page(app)
    return app


def guarded(app: FastAPI) -> Guards:
    """The application behind its guards, which is what is served."""
    service: Service = app.state.service
    return Guards(app, service.config.limits, service.metrics)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.uploads.sweep()
    service.scheduler.start()
    yield
    service.scheduler.stop()


def _serve_page(app: FastAPI) -> None:
    app.mount("/page", StaticFiles(directory=PAGE, check_dir=False), name="page")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")
