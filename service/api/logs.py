"""A job's log as it grows: server-sent events, whose ids are offsets to take it up at."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Final

from service.api.records import Record
from service.api.service import Service
from service.api.states import FINAL

CHUNK_LINES: Final = 500
POLL_SECONDS: Final = 0.5
ALIVE_SECONDS: Final = 15.0
"""Time after which a silent stream says that it is alive, and its token is looked at again."""


def lines_from(service: Service, job: Record, offset: int, limit: int | None) -> list[str]:
    """Lines of a job's log from an offset on."""
    launcher = service.launchers.get(job.scheduler)
    if launcher is None or job.handle is None:
        return []
    return list(islice(launcher.logs(job.handle, offset=offset), limit))


async def follow(
    service: Service, job: Record, offset: int, may_go_on: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Events of a log, one a line, until the job has ended or its reader may no longer read.

    Args:
        service: That has the job.
        job: Whose log.
        offset: Bytes that the reader has.
        may_go_on: Whether the reader may still read.
    """
    asked = time.monotonic()
    with service.metrics.followers.track_inprogress():
        while True:
            found = await asyncio.to_thread(service.jobs.get, job.id)
            if found.attempt != job.attempt:  # started again: a new log
                offset, job = 0, found
            lines = await asyncio.to_thread(lines_from, service, found, offset, CHUNK_LINES)
            for line in lines:
                raw = line.encode(errors="surrogateescape")
                offset += len(raw) + 1
                yield _event(raw, offset)
            if found.state in FINAL and not lines:
                yield b"event: end\ndata: " + json.dumps({"state": found.state}).encode() + b"\n\n"
                return
            if time.monotonic() - asked > ALIVE_SECONDS:
                asked = time.monotonic()
                if not await asyncio.to_thread(may_go_on):
                    return
                yield b": alive\n\n"
            if len(lines) < CHUNK_LINES:
                await asyncio.sleep(POLL_SECONDS)


def _event(line: bytes, offset: int) -> bytes:
    """A line as an event; a carriage return would end its field."""
    data = b"".join(b"data: " + part + b"\n" for part in line.split(b"\r"))
    return b"id: %d\n" % offset + data + b"\n"
