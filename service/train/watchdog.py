"""Seeing that a training makes no progress, saying which rank is behind, and ending the job.

The training loop says where it is. A thread of every rank passes that on through the ranks' store,
and looks how long ago it was. When it was too long, all ranks write the stacks of their threads to
RUN/stacks-rank*.txt, one of them logs where each rank is, and all end with exit code 4. A rank that
is stopped is woken to write its stacks; one whose interpreter is stuck is made to by SIGUSR1, which
writes them at any time: ``kill -USR1 PID``. A rank that was suspended (Ctrl-Z, Slurm's suspend, a
paused container) goes on when it is resumed: that it stood still is no hang. Several ranks do if
the one of their exchanges that was under way has not timed out; else they are started again.
"""

import faulthandler
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import torch.distributed as dist

from service.distributed import Ranks
from service.job import EXIT_HUNG, job_id, num_restarts

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

STACKS: Final = "stacks-rank{}.txt"
PATIENT: Final = 2
"""Writing or reading a checkpoint may take this many times as long."""
SUSPENDED_SECONDS: Final = 2.0
"""This thread is never that late unless the process stood still as a whole."""
ANSWER_SECONDS: Final = 5.0
"""Ranks that have not written their stacks by then will not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a rank is."""

    rank: int
    pid: int
    host: str
    beats: int
    """How often it has said so: the rank that is behind has said it least."""
    step: int
    what: str
    since: float
    """When it has said so last, in seconds since 1970."""


class Watchdog:
    """Watches one rank, from ``with`` on.

    Args:
        ranks: The ranks, of whom any may be the one that hangs.
        folder: Gets the stacks.
        seconds: Without progress until the job is ended; 0 watches nothing.
    """

    def __init__(self, ranks: Ranks, folder: Path, *, seconds: float) -> None:
        self._ranks, self._folder, self._seconds = ranks, folder, seconds
        self._state = (0, 0, "starting", time.monotonic(), 1)
        self._pause, self._ticked = min(seconds / 10, 2.0), time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mixdim-watchdog", daemon=True)
        store = dist.distributed_c10d._get_default_store().clone()  # type: ignore[attr-defined]
        self._store = dist.PrefixStore(f"watchdog-{job_id()}-{num_restarts()}", store)

    def beat(self, what: str, step: int, *, patience: int = 1) -> None:
        """Say where the training is; takes less than a microsecond or two.

        Args:
            what: What it does now.
            step: Steps done.
            patience: How many times as long it may take.
        """
        self._state = (self._state[0] + 1, step, what, time.monotonic(), patience)

    def idle_seconds(self) -> float:
        """Time since this rank has said last where it is."""
        return time.monotonic() - self._state[3]

    def loading(self, batches: Iterator[Item]) -> Iterator[Item]:
        """Pass batches on, and say when one is waited for."""
        while True:
            step = self._state[1]
            self.beat("waiting for data", step)
            batch = next(batches, None)
            self.beat("training", step)
            if batch is None:
                return
            yield batch

    def __enter__(self) -> Self:
        if self._seconds:
            self._file = (self._folder / STACKS.format(self._ranks.rank)).open("a")
            self._file.truncate(0)
            faulthandler.register(signal.SIGUSR1, file=self._file, all_threads=True)
            self._ticked = time.monotonic()
            self._tell()  # before anything can hang: who has never spoken cannot be woken
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._seconds:
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()
            self._stood_still()
            faulthandler.unregister(signal.SIGUSR1)
            self._file.close()
            path = Path(self._file.name)
            if path.exists() and not path.stat().st_size:
                path.unlink()

    def _watch(self) -> None:
        is_asked, resumed = False, 0.0
        while not (is_asked or self._is_over.wait(self._pause)):
            # For an interpreter that is stuck as a whole, this thread with it. It does not end the
            # process: one that was suspended for as long looks the same.
            late = self._seconds * PATIENT + 2 * ANSWER_SECONDS
            faulthandler.dump_traceback_later(late, file=self._file)
            if self._stood_still():
                resumed = self._ticked
            _, _, _, since, patience = self._state
            try:
                self._tell()
                is_asked = self._store.check(["hung"])
            except RuntimeError:  # the store went with its process: collectives will say so
                pass
            if is_asked or self._ticked - max(since, resumed) > self._seconds * patience:
                self._end()

    def _stood_still(self) -> bool:
        """Whether the process was suspended since this was asked last; forgets what that wrote."""
        before, self._ticked = self._ticked, time.monotonic()
        if was_suspended := self._ticked - before > self._pause + SUSPENDED_SECONDS:
            self._file.truncate(0)  # faulthandler's clock had run on
        return was_suspended

    def _tell(self) -> None:
        beats, step, what, since, _ = self._state
        place = Place(
            rank=self._ranks.rank,
            pid=os.getpid(),
            host=socket.gethostname(),
            beats=beats,
            step=step,
            what=what,
            since=time.time() - (time.monotonic() - since),  # clocks of hosts agree on this one
        )
        self._store.set(f"rank-{self._ranks.rank}", json.dumps(asdict(place)))

    def _end(self) -> None:
        """Write the stacks, and end this process; the first rank to come here speaks for all."""
        # Storage may be what hangs: nothing here waits for it.
        threading.Thread(target=self._write_stacks, daemon=True).start()
        try:
            is_speaker = self._store.add("hung", 1) == 1
            if is_speaker:
                self._report()
            else:
                time.sleep(2 * ANSWER_SECONDS)
        except RuntimeError as error:
            logger.error("no progress for %.0f s, and no word of others: %s", self._seconds, error)
        os._exit(EXIT_HUNG)

    def _write_stacks(self) -> None:
        faulthandler.dump_traceback(self._file, all_threads=True)
        self._store.set(f"answer-{self._ranks.rank}", "")

    def _report(self) -> None:
        places, now = self._places(), time.time()
        silent = self._silent(places)
        for place in silent:
            _wake(place)
        silent = self._silent(silent)
        behind = min(places, key=lambda place: place.beats)
        for place in places:
            logger.error(
                "rank %d%s: step %d, %s for %.0f s%s",
                place.rank,
                " is behind" if place is behind and len(places) > 1 else "",
                place.step,
                place.what,
                now - place.since,
                ", no answer" if place in silent else "",
            )
        stacks = self._folder / STACKS.format("*")
        logger.error("no progress for %.0f s; stacks are in %s", self._seconds, stacks)

    def _silent(self, places: Sequence[Place]) -> list[Place]:
        """Ranks that have not written their stacks after a while."""
        deadline = time.monotonic() + ANSWER_SECONDS / 2
        while True:
            keys = {place: f"answer-{place.rank}" for place in places}
            silent = [place for place, key in keys.items() if not self._store.check([key])]
            if not silent or time.monotonic() > deadline:
                return silent
            time.sleep(0.1)

    def _places(self) -> list[Place]:
        keys = [f"rank-{rank}" for rank in range(self._ranks.world_size)]
        known = [key for key in keys if self._store.check([key])]
        return [Place(**json.loads(self._store.get(key))) for key in known]


def _wake(place: Place) -> None:
    """Have a rank of this machine write its stacks, even if it is stopped or its interpreter is."""
    if place.host == socket.gethostname():
        try:
            os.kill(place.pid, signal.SIGUSR1)
            os.kill(place.pid, signal.SIGCONT)
        except ProcessLookupError:
            return
