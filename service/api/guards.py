"""What every request passes: its rate, and headers that a browser needs to be safe."""

import math
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.config import Limits
from service.api.errors import answer
from service.metrics import ServiceMetrics

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
MAX_BUCKETS: Final = 10_000
"""Tokens and addresses that are remembered; beyond it, those that have been quiet are not."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
UPLOADS: Final = "/api/v1/uploads/"
"""Where raw files are sent, which are larger than other bodies."""
UNLIMITED: Final = frozenset({"/healthz", "/readyz"})


class Rate:
    """A bucket for everybody, which fills steadily and is emptied by requests.

    Args:
        per_second: What it gains.
        burst: What it holds.
        clock: Seconds.
    """

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait_seconds(self, who: str) -> float:
        """0 if a request may pass, and it is counted; else when the next one may."""
        now = self._clock()
        with self._lock:
            if who not in self._buckets and len(self._buckets) >= MAX_BUCKETS:
                self._forget(now)
            level, since = self._buckets.get(who, (float(self._burst), now))
            level = min(self._burst, level + (now - since) * self._per_second)
            may = level >= 1
            self._buckets[who] = (level - may, now)
        return 0.0 if may else (1 - level) / self._per_second

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full again, or the older half if none is."""
        full = self._burst / self._per_second
        kept = {who: found for who, found in self._buckets.items() if now - found[1] < full}
        if len(kept) >= MAX_BUCKETS:
            kept = dict(sorted(kept.items(), key=lambda item: item[1][1])[MAX_BUCKETS // 2 :])
        self._buckets = kept


class Guards:
    """Refuses requests that are too many or too large; measures answers and makes them safe.

    Args:
        app: What comes behind.
        limits: Rates and sizes.
        metrics: Count what was answered and refused.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: ServiceMetrics) -> None:
        self._app, self._metrics = app, metrics
        self._rate = Rate(limits.requests_per_second, limits.burst)
        self._limits = limits
        self._known: dict[int, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = Headers(scope=scope)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    found.setdefault(name, value)
                found.setdefault("cache-control", "no-store")
                self._remember(scope, headers, message["status"])
                self._measure(scope, message["status"], time.perf_counter() - start)
            await send(message)

        is_free = scope["path"] in UNLIMITED
        wait = 0.0 if is_free else self._rate.wait_seconds(self._who(scope, headers))
        if wait:
            after = {"Retry-After": str(math.ceil(wait))}
            refusal = answer(429, "too many requests", "send fewer at a time", after)
            await refusal(scope, receive, send_safely)
            return
        length = headers.get("content-length", "0")
        most = self._most_bytes(scope)
        if length.isascii() and length.isdigit() and int(length) > most:
            said = f"the body has {length[:20]} bytes, expected at most {most:,} bytes"
            refusal = answer(413, said)
            await refusal(scope, receive, send_safely)
            return
        await self._app(scope, receive, send_safely)

    def _most_bytes(self, scope: Scope) -> int:
        is_upload = scope["method"] == "PUT" and scope["path"].startswith(UPLOADS)
        return self._limits.upload_bytes if is_upload else self._limits.body_bytes

    def _who(self, scope: Scope, headers: Headers) -> str:
        """The token that a request shows, if it was good before; else where it comes from."""
        token = self._known.get(hash(headers.get("authorization")))
        host = scope["client"][0] if scope.get("client") else "?"
        return f"host {host}" if token is None else f"token {token}"

    def _remember(self, scope: Scope, headers: Headers, status: int) -> None:
        """Only what a token was needed for says whether it is good."""
        shown = hash(headers.get("authorization"))
        if status == HTTPStatus.UNAUTHORIZED:
            self._known.pop(shown, None)
        elif (account := scope.get("state", {}).get("account")) is not None:
            if len(self._known) >= MAX_BUCKETS:
                del self._known[next(iter(self._known))]
            self._known[shown] = account.token

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(method=method, route=route, status=str(status)).inc()
        self._metrics.request_seconds.labels(route=route).observe(seconds)
