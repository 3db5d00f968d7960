"""The ranks of this machine under torch's elastic agent: started, watched, started again.

The agent ends all ranks as soon as one is lost. Whether another start is worth it is decided here,
for the agent does not know why a rank failed: input that was refused once is refused again.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar

from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

from service.job import EXIT_HUNG, EXIT_LOST, REFUSALS, JobError
from service.stop import Stopped, StopRequest

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

PASSING: Final[tuple[type[Exception], ...]] = (
    *(RuntimeError, ConnectionError, TimeoutError, InterruptedError),
)
"""Errors that another start may spare us: those of torch's collectives are among them."""
EXIT_SIGNALLED: Final = 128
"""Exit code of a process that a signal ended, less the signal: the shell's way."""
FAREWELL_SECONDS: Final = 5.0
"""What the agent gets to see ranks off that have finished."""
MAX_MESSAGE_BYTES: Final = 1 << 15
"""What a pipe takes while nobody reads it is twice this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What a rank raised."""

    error: Exception
    trace: str


def supervise(entry: Callable[[], Result], *, nproc: int, name: str, max_restarts: int) -> Result:
    """Run ``entry()`` on ``nproc`` ranks; return the first rank's result.

    Args:
        entry: What every rank does; `service.job.num_restarts` says which start it is.
        nproc: Ranks to start.
        name: How the job is called.
        max_restarts: How often all ranks are started again after one was lost.

    Raises:
        ValueError: What a rank raised; likewise `OSError`, `ArithmeticError` and `PlanError`.
        Stopped: If this process was told to stop; the ranks were told, and have ended.
        JobError: If ranks were lost once more than ``max_restarts`` allows, or made no progress.
    """
    multiprocessing.set_forkserver_preload(["service.forkserver"])
    job = _config(f"{name}-{uuid.uuid4().hex[:12]}", nproc)
    with StopRequest(_pass_on).listening() as stop:
        for restart in range(max_restarts + 1):
            pipes = [multiprocessing.Pipe(duplex=False) for _ in range(nproc)]
            senders = [sender for _, sender in pipes]
            failures: dict[int, Failure] = {}
            try:
                with _Results(pipes) as results:
                    elastic_launch(job, _run_rank)(senders, restart, entry)
            except ChildFailedError as error:
                failures = {
                    rank: said for rank, said in results.said.items() if isinstance(said, Failure)
                }
                lost = _judge(failures, nproc, *error.get_first_failure())
            except SignalException as error:  # of those that the agent listens to
                raise Stopped(error.sigval) from None
            if len(results.said) == nproc and not failures:
                first: Result = results.said[0]
                return first
            if stop.signal:
                raise Stopped(stop.signal)
            if restart < max_restarts:
                again = "starting all ranks again, from the last checkpoint (%d of %d)"
                logger.warning(f"%s; {again}", lost, restart + 1, max_restarts)
    for failure in failures.values():
        logger.error("%s", failure.trace)
    used_up = f" after {max_restarts} restart(s)" if max_restarts else ""
    raise JobError(f"{lost}{used_up}; find out why, and go on with --resume")


def die_with_parent() -> None:
    """Have the system kill this rank when torchrun, or `service.forkserver`, is gone."""
    _prctl_pr_set_pdeathsig(signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it went before we asked
        os._exit(EXIT_LOST)


def _config(job: str, nproc: int) -> LaunchConfig:
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they say is said here
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nproc,
        run_id=job,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        start_method="forkserver",
        max_restarts=0,
        monitor_interval=0.2,
        shutdown_timeout=int(FAREWELL_SECONDS),
        signals_to_handle="SIGHUP,SIGQUIT",  # the others are ours: see StopRequest
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # else it leaves folders behind
    )


def _pass_on(number: signal.Signals) -> None:
    """Tell the ranks; where there are none yet, nothing is lost by ending at once."""
    ranks = [child.pid for child in multiprocessing.active_children() if child.pid]
    for pid in ranks:
        os.kill(pid, number)
    if not ranks:
        raise Stopped(number)


class _AllDone(Exception):  # noqa: N818 - nothing went wrong
    """Every rank has said what came out."""


class _Results:
    """What the ranks say came out, and an end to the agent's wait once all have.

    The agent tells ranks that have finished to go, and waits for every one of them to take note:
    for ever, if one is killed just then. So it is interrupted.

    Args:
        pipes: One from every rank, receiver first.
    """

    def __init__(self, pipes: Sequence[tuple[Connection, Connection]]) -> None:
        self.said: dict[int, Any] = {}
        self._pipes = pipes
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGUSR2, self._interrupt)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._is_over.set()
        for _, sender in self._pipes:
            sender.close()  # or half a message would be waited for
        self._thread.join()
        signal.signal(signal.SIGUSR2, self._previous)
        return kind is _AllDone

    def _listen(self) -> None:
        waiting = {receiver: rank for rank, (receiver, _) in enumerate(self._pipes)}
        while waiting:
            for receiver in wait(list(waiting)):
                assert isinstance(receiver, Connection)
                rank = waiting.pop(receiver)
                try:
                    self.said[rank] = pickle.loads(receiver.recv_bytes())
                except (EOFError, OSError):
                    continue  # killed: it says nothing
                finally:
                    receiver.close()
        failed = any(isinstance(said, Failure) for said in self.said.values())
        is_complete = len(self.said) == len(self._pipes) and not failed
        if is_complete and not self._is_over.wait(FAREWELL_SECONDS):
            os.kill(os.getpid(), signal.SIGUSR2)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self._is_over.is_set():
            raise _AllDone


def _judge(failures: dict[int, Failure], nproc: int, first: int, failed: ProcessFailure) -> str:
    """Say in a line what may be mended by another start; raise what may not."""
    for rank, failure in failures.items():
        if isinstance(failure.error, PASSING):
            continue
        if isinstance(failure.error, REFUSALS):
            raise failure.error
        raise RuntimeError(f"rank {rank} failed:\n{failure.trace}")
    if failed.exitcode == EXIT_HUNG:
        raise JobError(
            "the ranks made no progress; the log says which one is behind, stacks-rank*.txt in the "
            "run folder where each of them was; go on with --resume",
            exit_code=EXIT_HUNG,
        )
    if (number := failed.exitcode - EXIT_SIGNALLED) in (signal.SIGINT, signal.SIGTERM):
        raise Stopped(signal.Signals(number))
    if failed.exitcode < 0:
        return f"rank {first} was killed by {signal.Signals(-failed.exitcode).name}"
    if first not in failures:
        return f"rank {first} ended with exit code {failed.exitcode}"
    if silent := [rank for rank in range(nproc) if rank not in failures]:
        return f"rank {', '.join(map(str, silent))} was lost without a word (out of memory?)"
    text, *_ = str(failures[first].error).splitlines() or [""]
    return f"rank {first} failed: {text}"


def _run_rank(
    senders: Sequence[Connection],
    restart: int,
    entry: Callable[[], object],
) -> None:
    """What a started process does; it ends without torch's wrapper, which would leave files."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the training listens
    die_with_parent()
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(restart)
    try:
        result = entry()
    except KeyboardInterrupt:
        _end(EXIT_SIGNALLED + signal.SIGINT)
    except Exception as error:  # the outermost edge of this process
        senders[int(os.environ["LOCAL_RANK"])].send_bytes(_message(error))
        _end(EXIT_LOST)
    if stopped_by := getattr(result, "stopped_by", None):
        # The agent no longer waits for a result.
        _end(EXIT_SIGNALLED + signal.Signals[stopped_by])
    senders[int(os.environ["LOCAL_RANK"])].send_bytes(pickle.dumps(result))


def _message(error: Exception) -> bytes:
    """An error and where it came from, as bytes that fit into a pipe and can be read."""
    text = str(error)[: MAX_MESSAGE_BYTES // 8]
    frames = "".join(traceback.format_tb(error.__traceback__))[-MAX_MESSAGE_BYTES // 4 :]
    trace = f"{frames}{type(error).__name__}: {text}"
    try:
        message = pickle.dumps(Failure(error=error, trace=trace))
        pickle.loads(message)
    except (pickle.PickleError, TypeError, AttributeError):
        message = b""
    if 0 < len(message) < MAX_MESSAGE_BYTES:
        return message
    kinds = (*REFUSALS, *PASSING)
    kind = next((kind for kind in kinds if isinstance(error, kind)), Exception)
    return pickle.dumps(Failure(error=kind(text), trace=trace))


def _end(exit_code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
