"""Bodies of requests are read whole and no larger than they may be; answers are timed."""

import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics.serving import ServingMetrics


class BodyLimit:
    """Stands before the application.

    Args:
        app: What answers.
        max_bytes: Largest body.
        metrics: Time of answers to ``/predict``, by status.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, metrics: ServingMetrics) -> None:
        self._app, self._max_bytes, self._metrics = app, max_bytes, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] != "/predict":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - start
                status = str(message["status"])
                self._metrics.request_seconds.labels(status=status).observe(seconds)
            await send(message)

        body = await self._read(receive)
        if body is None:
            message = f"the body has more than {self._max_bytes:,} bytes; send fewer rows at a time"
            error = {"error": {"code": "too_large", "message": message}}
            await JSONResponse(error, status_code=413)(scope, receive, timed)
            return
        await self._app(scope, _replay(body, receive), timed)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body; None where it is too large, whatever its header says."""
        parts: list[bytes] = []
        num_bytes = 0
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            num_bytes += len(parts[-1])
            if num_bytes > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand a body out that was read before, then what comes behind it."""
    is_read = False

    async def again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
