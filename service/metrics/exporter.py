"""The ``/metrics`` page of a process, and the port that it is served at."""

import errno
import os
import re
import threading
from types import TracebackType
from typing import Final, Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

MAX_PORT: Final = 65_535
PORT_TAKEN: Final = re.compile(
    rf"metrics port \d+ on \S+ of local rank \d+: {re.escape(os.strerror(errno.EADDRINUSE))}"
)
"""What a rank says, in its log, when somebody else has its port."""


class Exporter:
    """A ``/metrics`` page that is served until closed; one that is switched off has no port."""

    def __init__(self, server: WSGIServer | None, thread: threading.Thread | None) -> None:
        self._server, self._thread = server, thread

    @property
    def port(self) -> int | None:
        """Where the page is; None while nothing is served."""
        return self._server.server_port if self._server else None

    def close(self) -> None:
        """Stop serving and free the port; may be called again."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def start_exporter(
    registry: CollectorRegistry, port: int, host: str = "127.0.0.1", *, local_rank: int = 0
) -> Exporter:
    """Serve a rank's metrics at ``port + local_rank``.

    Args:
        registry: What to serve.
        port: Port of local rank 0; 0 serves nothing.
        host: Address to listen on.
        local_rank: This process among the ranks of its machine.

    Raises:
        ValueError: If there is no such port.
        OSError: If the port is taken, or the address is not this machine's.
    """
    if port == 0:
        return Exporter(None, None)
    own_port = port + local_rank
    if not 0 < port <= own_port <= MAX_PORT:
        raise ValueError(
            f"metrics port {own_port} of local rank {local_rank}, expected at most {MAX_PORT}; "
            f"try --metrics-port 9400"
        )
    try:
        return Exporter(*start_http_server(own_port, addr=host, registry=registry))
    except OSError as error:
        raise OSError(
            f"metrics port {own_port} on {host} of local rank {local_rank}: {error.strerror}; "
            f"give --metrics-port a port that is free, with the next ones for further ranks, or 0"
        ) from error
