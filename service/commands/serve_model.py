"""``mixdim serve-model ARTIFACT --port 8080``: a model over HTTP."""

import dataclasses
import logging
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import tyro

logger = logging.getLogger("service.commands.serve_model")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServeModelCommand:
    """Serve an artifact over HTTP: /predict, /model, /healthz, /readyz, /metrics.

    A new version is taken when ARTIFACT, or what it links to, is replaced, and on SIGHUP. There are
    no tokens: put what authenticates in front, or keep it on this machine.
    """

    artifact: tyro.conf.Positional[Path]
    """Folder written by ``mixdim export``, or a link to one."""

    port: int = 8080
    """Port to listen on; 0 for any that is free."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 inside a container."""

    max_rows: int = 1024
    """Rows that are scored together; a request may have no more."""

    max_wait_ms: float = 2.0
    """How long the first row of a batch waits for those of other requests."""

    max_waiting_rows: int = 16_384
    """Rows that may wait; further requests get 503."""

    max_body_bytes: int = 4 << 20
    """Largest body of a request; larger ones get 413."""

    poll_seconds: float = 2.0
    """Time between two looks for a new version."""

    threads: int = 0
    """Threads of torch; 0 for one a core."""

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_waiting_rows", "max_body_bytes"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}, expected at least 1")
        if self.max_waiting_rows < self.max_rows:
            raise ValueError(
                f"max_waiting_rows={self.max_waiting_rows}, expected at least "
                f"max_rows={self.max_rows}: a request may have as many"
            )
        if self.max_wait_ms < 0 or not self.poll_seconds > 0 or self.threads < 0:
            raise ValueError(
                f"max_wait_ms={self.max_wait_ms}, poll_seconds={self.poll_seconds}, "
                f"threads={self.threads}; expected 0 or more, and a positive time between looks"
            )


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop; requests that have come by then are answered."""
    command = tyro.cli(ServeModelCommand, args=list(argv), prog="mixdim serve-model")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a version to be replaced
    with _listening(command.host, command.port) as listener:
        _serve(command, listener)
    return 0


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise OSError(f"port {port} on {host}: {error.strerror}; give another --port") from error


def _serve(command: ServeModelCommand, listener: socket.socket) -> None:
    import torch
    import uvicorn

    from service.serving.app import ServingOptions, make_app
    from service.serving.batching import BatchLimits
    from service.serving.current import CurrentModel

    if command.threads:
        torch.set_num_threads(command.threads)
    model = CurrentModel(command.artifact)
    limits = BatchLimits(
        max_rows=command.max_rows,
        max_wait_seconds=command.max_wait_ms / 1000,
        max_waiting_rows=command.max_waiting_rows,
    )
    options = ServingOptions(
        batches=limits, max_body_bytes=command.max_body_bytes, poll_seconds=command.poll_seconds
    )
    served, (host, port) = model.artifact.manifest, listener.getsockname()[:2]
    logger.info("serving %s, version %s, on http://%s:%d", served.name, served.version, host, port)
    config = uvicorn.Config(
        make_app(model, options), log_level="warning", access_log=False, server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])
