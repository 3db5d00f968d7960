"""The loop that starts jobs in their turn, and finds out what became of them.

It looks at the records and at the launchers, and does what is missing between the two; it keeps
nothing in its head. So a service that was killed anywhere goes on with its first turn: a job that
is `starting` is submitted again, which launchers do once per key; one that is `cancelling` is
cancelled again; what no launcher knows any more has failed. Of a scheduler that does not answer
nothing is known: its jobs stay as they are until it does.
"""

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from deploy.job import RESUMABLE, SAY_HOW
from service.api.config import ServiceConfig
from service.api.jobs import Jobs
from service.api.records import Record
from service.api.states import Event, IllegalMove, State
from service.jobs.launcher import AwayError, Job, JobState, JobStatus, Launcher
from service.jobs.reason import explained, legible, shortened
from service.metrics import PORT_TAKEN, ServiceMetrics

logger = logging.getLogger(__name__)

WORKERS: Final = 8
"""Jobs that are looked at at a time: schedulers of clusters take their time to answer."""
LOCAL: Final = "local"
PORT_ATTEMPTS: Final = 5
"""Attempts after which a job whose ports are taken has failed."""


class Scheduler:
    """Moves jobs on, one turn after the other, in a thread of its own.

    Args:
        jobs: The records.
        launchers: By the name of their scheduler.
        config: Limits, ports and the time between turns.
        metrics: Get how long turns take, and what was started.
    """

    def __init__(
        self,
        jobs: Jobs,
        launchers: Mapping[str, Launcher],
        config: ServiceConfig,
        metrics: ServiceMetrics,
    ) -> None:
        self._jobs, self._launchers, self._config = jobs, launchers, config
        self._metrics = metrics
        self._home = config.home.resolve()
        self._away: set[str] = set()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begin to take turns."""
        self._thread.start()

    def stop(self) -> None:
        """End after this turn; jobs go on, unless they are to end with the service."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        if self._config.end_jobs and LOCAL in self._launchers:
            self._end_local()

    def _end_local(self) -> None:
        launcher = self._launchers[LOCAL]
        here = [job.key for job in self._jobs.unfinished() if job.scheduler == LOCAL]
        handles = [handle for handle in map(launcher.find, here) if handle]
        for handle in handles:
            launcher.cancel(handle)
        while not all(launcher.status(handle).state.is_final for handle in handles):
            time.sleep(self._config.poll_seconds)

    def wake(self) -> None:
        """Take a turn soon: something was asked for."""
        self._wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether turns are taken."""
        return self._thread.is_alive()

    def _run(self) -> None:
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="look") as pool:
            while not self._stop.is_set():
                self._wake.clear()
                try:
                    self.turn(pool)
                except SQLAlchemyError as error:
                    logger.error("the records cannot be reached: %s; trying again", error)
                self._wake.wait(self._config.poll_seconds)

    def turn(self, pool: ThreadPoolExecutor) -> None:
        """Look at all that lives, then start what may."""
        self._away.clear()  # one look a turn tells; each may take many seconds
        with self._metrics.turn_seconds.time():
            unfinished = self._jobs.unfinished()
            live = [job for job in unfinished if job.state is not State.QUEUED]
            list(pool.map(self._look, live))
            if any(job.state is State.QUEUED for job in unfinished):
                list(pool.map(self._look, self._starting()))

    def _starting(self) -> list[Record]:
        """Jobs whose turn it is, with their ports, written down as starting."""
        unfinished = self._jobs.unfinished()
        load = _Load(self._config, (job for job in unfinished if job.state is not State.QUEUED))
        starting = []
        for job in (job for job in unfinished if job.state is State.QUEUED):
            if self._stop.is_set() or job.scheduler in self._away or not load.has_room(job):
                continue
            port = load.port_for(job)
            with suppress(IllegalMove):  # it was cancelled meanwhile
                begun = self._jobs.move(job.id, Event.START, metrics_port=port)
                load.take(begun)
                starting.append(begun)
                self._metrics.started.inc()
        return starting

    def _look(self, job: Record) -> None:
        """Do what is next for a job; whatever goes wrong, others are looked at, and it again."""
        launcher = self._launchers.get(job.scheduler)
        if launcher is None:
            self._fail(job, f"scheduler {job.scheduler!r} is not served any more")
            return
        if job.scheduler in self._away:
            return
        try:
            (self._submit if job.state is State.STARTING else self._follow)(job, launcher)
        except IllegalMove:
            pass  # somebody was faster; the next turn sees what it is now
        except AwayError as error:
            self._away.add(job.scheduler)
            logger.warning("%s: %s", job.scheduler, error)
        except SQLAlchemyError:
            raise
        except Exception:  # an outermost edge: libraries of schedulers raise what they like
            logger.exception("job %s could not be looked at; looking again", job.id)

    def _follow(self, job: Record, launcher: Launcher) -> None:
        """Find out what became of a job, and write it down."""
        handle = job.handle or launcher.find(job.key)
        if handle is None:  # cancelled before its launcher heard of it
            self._jobs.move(job.id, Event.END)
            return
        if job.state is State.CANCELLING:
            launcher.cancel(handle)
        self._judge(job, handle, launcher.status(handle))

    def _submit(self, job: Record, launcher: Launcher) -> None:
        try:
            handle = launcher.submit(job.key, as_job(job, self._config))
        except AwayError:
            raise  # it may have the job, so that this is asked again
        except Exception as error:  # an outermost edge, as above
            self._fail(job, str(error) or type(error).__name__)
            return
        try:
            self._jobs.move(job.id, Event.RUN, handle=handle)
        except IllegalMove:  # cancelled meanwhile: the next turn ends it
            self._jobs.note_facts(job.id, handle=handle)

    def _judge(self, job: Record, handle: str, status: JobStatus) -> None:
        if not status.state.is_final:
            if status.hosts != job.hosts:
                self._jobs.note_facts(job.id, hosts=list(status.hosts))
            return
        event = {
            JobState.SUCCEEDED: Event.SUCCEED,
            JobState.CANCELLED: Event.END,
        }.get(status.state, Event.FAIL)
        message = status.message
        if status.state is JobState.MISSING:
            event = Event.END if job.state is State.CANCELLING else Event.FAIL
            message = "its scheduler knows it no more"
        elif event is Event.FAIL:
            log = partial(self._launchers[job.scheduler].logs, handle)
            message = explained(status, log, hidden=self._home)
        if job.state is State.RUNNING and _has_lost_its_ports(job, message):
            self._jobs.move(job.id, Event.AGAIN, message)
            return
        self._jobs.move(job.id, event, message, exit_code=status.exit_code)
        self._metrics.ended.labels(event=event.value).inc()

    def _fail(self, job: Record, message: str) -> None:
        logger.warning("job %s failed: %s", job.id, message)
        with suppress(IllegalMove):
            self._jobs.move(job.id, Event.FAIL, shortened(legible(message, self._home)))


class _Load:
    """What the jobs that live take, and what is left."""

    def __init__(self, config: ServiceConfig, live: Iterable[Record]) -> None:
        self._config = config
        self._running: Counter[str] = Counter()
        self._gpus: Counter[str] = Counter()
        self._local = 0
        self._ports: set[int] = set()
        for job in live:
            self.take(job)

    def take(self, job: Record) -> None:
        self._running[job.owner] += 1
        self._gpus[job.owner] += job.num_gpus
        self._local += job.scheduler == LOCAL
        if job.metrics_port:
            self._ports |= {*range(job.metrics_port, job.metrics_port + job.num_ports)}

    def has_room(self, job: Record) -> bool:
        limits = self._config.limits
        if job.scheduler == LOCAL and self._local >= limits.local_jobs:
            return False
        if self._running[job.owner] >= limits.running_per_user:
            return False
        return self._gpus[job.owner] + job.num_gpus <= limits.gpus_per_user

    def port_for(self, job: Record) -> int | None:
        """First of as many ports as the job needs, free on this machine where it runs there.

        A job that found its ports taken gets others: what is free on a cluster only it can tell.
        """
        if not job.num_ports:
            return None
        first, last = self._config.metrics_ports
        begin = job.metrics_port + job.num_ports if job.metrics_port else first
        end = last + 2 - job.num_ports
        for port in chain(range(begin, end), range(first, min(begin, end))):
            wanted = range(port, port + job.num_ports)
            is_ours = job.scheduler == LOCAL
            if self._ports.isdisjoint(wanted) and (not is_ours or all(map(_is_free, wanted))):
                return port
        return None


def as_job(record: Record, config: ServiceConfig) -> Job:
    """A record as its launcher takes it."""
    request = record.request
    arguments = list(record.arguments)
    if record.metrics_port is not None:
        arguments += ["--metrics-port", str(record.metrics_port)]
        if record.scheduler != LOCAL:
            arguments += ["--metrics-host", "0.0.0.0"]
    if record.verb in RESUMABLE and record.attempt > 1 and SAY_HOW.isdisjoint(arguments):
        arguments += ["--resume"]
    return Job(
        verb=record.verb,
        arguments=tuple(arguments),
        name=record.name,
        nodes=request["nodes"],
        ranks_per_node=request["ranks_per_node"],
        host=request["host"],
        image=request["image"] or config.images[0],
        mounts=config.mounts,
        max_retries=request["max_retries"],
    )


def _has_lost_its_ports(job: Record, message: str) -> bool:
    """Whether somebody took the ports of a job between the look at them and its start."""
    has_ports = job.metrics_port is not None and job.attempt < PORT_ATTEMPTS
    return has_ports and PORT_TAKEN.search(message) is not None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
