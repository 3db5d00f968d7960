"""A model over HTTP: predictions, what it is, whether it is well, and what it tells Prometheus."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from service import __version__
from service.metrics.serving import ServingMetrics
from service.serving.artifact import BadRowsError
from service.serving.batching import Batcher, BatchLimits, BusyError
from service.serving.body_limit import BodyLimit
from service.serving.current import CurrentModel

SHOWN_ROWS: Final = 20
"""Bad rows that an answer names."""

Rows = Annotated[list[dict[str, Any]], Body(embed=True, min_length=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingOptions:
    """How a model is served."""

    batches: BatchLimits = field(default_factory=BatchLimits)
    """How rows of several requests are brought together."""
    max_body_bytes: int = 4 << 20
    """Largest body of a request."""
    poll_seconds: float = 2.0
    """Time between two looks for a new version."""


def make_app(model: CurrentModel, options: ServingOptions) -> FastAPI:
    """The application; it batches and looks for new versions while it is up."""
    fields = tuple(each.name for each in model.artifact.manifest.fields)
    metrics = ServingMetrics(CollectorRegistry(), fields)
    model.tell(metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.batcher = Batcher(lambda: model.artifact, options.batches, metrics)
        asked = asyncio.Event()
        with suppress(NotImplementedError, RuntimeError, ValueError):  # only in a main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
        async with AsyncExitStack() as tasks:
            app.state.tasks = [
                asyncio.create_task(app.state.batcher.run()),
                asyncio.create_task(model.watch(options.poll_seconds, asked)),
            ]
            for task in app.state.tasks:
                tasks.push_async_callback(_ended, task)
            yield

    app = FastAPI(title="MixDim model", version=__version__, lifespan=lifespan, docs_url=None)
    _add_predict(app, model, options)
    _add_questions(app, model, metrics)
    _add_refusals(app)
    app.add_middleware(BodyLimit, max_bytes=options.max_body_bytes, metrics=metrics)
    return app


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _add_predict(app: FastAPI, model: CurrentModel, options: ServingOptions) -> None:
    most = options.batches.max_rows

    @app.post("/predict", response_model=None)
    async def predict(request: Request, rows: Rows) -> Response | Mapping[str, object]:
        """Score raw rows: one prediction each, in their order."""
        if len(rows) > most:
            message = (
                f"{len(rows):,} rows, expected at most {most:,}; send them in several requests"
            )
            return refusal(413, "too_many_rows", message)
        answer = await request.app.state.batcher.predict(rows)
        return {
            "predictions": answer.predictions,
            "model": model.artifact.manifest.name,
            "version": answer.version,
        }


def _add_questions(app: FastAPI, model: CurrentModel, metrics: ServingMetrics) -> None:
    @app.get("/model")
    async def what() -> Mapping[str, object]:
        """What is served, which columns it reads, and what it scored when it was made."""
        manifest = model.artifact.manifest
        return {
            "model": manifest.name,
            "version": manifest.version,
            "task": manifest.task,
            "dtype": manifest.dtype,
            "columns": model.artifact.inputs,
            "lists": [each.name for each in manifest.fields if each.is_list],
            "scores": TypeAdapter(dict[str, float | None]).validate_python(manifest.gate.artifact),
        }

    @app.get("/healthz")
    async def is_alive() -> Mapping[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", response_model=None)
    async def is_ready(request: Request) -> Response | Mapping[str, str]:
        """Whether predictions are made."""
        if any(task.done() for task in request.app.state.tasks):
            return refusal(503, "not_ready", "scoring has ended; start the server again")
        return {"status": "ready", "version": model.artifact.manifest.version}

    @app.get("/metrics")
    async def page() -> Response:
        """For Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(BadRowsError)
    async def bad_rows(_: Request, error: BadRowsError) -> Response:
        named = list(error.reasons.items())[:SHOWN_ROWS]
        rows = [{"row": row, "reason": reason} for row, reason in named]
        message = f"{len(error.reasons):,} rows are no good; none of the request was scored"
        return refusal(422, "bad_rows", message, rows=rows)

    @app.exception_handler(BusyError)
    async def busy(_: Request, __: BusyError) -> Response:
        answer = refusal(503, "busy", "too many rows wait to be scored; try again in a second")
        answer.headers["Retry-After"] = "1"
        return answer

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return refusal(error.status_code, code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"] if part != "body")
        message = f"{place}: {fault['msg']}" if place else str(fault["msg"])
        expected = (
            'expected {"rows": [{column: value, ...}, ...]}, with at least one row, '
            "sent with Content-Type: application/json"
        )
        return refusal(422, "malformed", f"{message}; {expected}")


def refusal(status: int, code: str, message: str, **more: object) -> JSONResponse:
    """An answer that says what is wrong."""
    return JSONResponse({"error": {"code": code, "message": message, **more}}, status_code=status)
