"""Ranks: joining them, starting them on this machine, and what they agree on."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from models.tables import PlanError
from service.allocator import keep_freed_memory
from service.logs import configure_logs

Result = TypeVar("Result")

ECHO_SECONDS: Final = 3.0
"""A Ctrl-C that comes again within this time is the same one, passed on by somebody else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among the others."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    device: torch.device
    control: dist.ProcessGroup
    """Group for small messages between hosts' memories, also where tensors travel by NCCL."""

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the files that exist once."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on at least one rank; every rank gets the same answer."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self.control)
        return bool(flags.item())

    def sums(self, *values: float) -> list[float]:
        """Add values over all ranks."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.control)
        return [float(value) for value in total]

    def from_first(self, make: Callable[[], Result]) -> Result:
        """Do something on the first rank and give its result, or its error, to all."""
        box: list[Any] = [None, None]
        if self.is_first:
            try:
                box[0] = make()
            except (OSError, ValueError, ArithmeticError) as error:
                box[1] = error
        if self.world_size > 1:
            dist.broadcast_object_list(box, src=0, group=self.control)
        if box[1] is not None:
            raise box[1]
        result: Result = box[0]
        return result

    def gather(self, value: Result) -> list[Result]:
        """Collect a value of every rank, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Result | None] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values  # type: ignore[return-value]  # every rank has sent its value


@contextmanager
def joined_ranks(device: str = "auto", *, timeout_seconds: float = 600) -> Iterator[Ranks]:
    """Join the ranks that torchrun, TorchX or `launch` started; alone where none did.

    Inside of another ``joined_ranks`` the ranks stay joined, so that one set of processes can run
    several trainings.

    Raises:
        ValueError: If a GPU is asked for and this rank has none.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    place = _device(device, local_rank)
    timeout = timedelta(seconds=timeout_seconds)
    has_joined = dist.is_initialized()
    if not has_joined:
        _join(place, timeout)
    try:
        yield Ranks(
            rank=dist.get_rank(),
            local_rank=local_rank,
            world_size=dist.get_world_size(),
            local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            device=place,
            control=dist.new_group(backend="gloo", timeout=timeout),
        )
    finally:
        if not has_joined:
            dist.destroy_process_group()


def _join(place: torch.device, timeout: timedelta) -> None:
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend, timeout=timeout)
    else:
        dist.init_process_group(
            backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout
        )


def _device(wanted: str, local_rank: int) -> torch.device:
    available = torch.cuda.device_count()
    if wanted == "cpu" or (wanted == "auto" and not available):
        return torch.device("cpu")
    if local_rank >= available:
        raise ValueError(
            f"local rank {local_rank} wants a GPU, this machine has {available}; lower --nproc to "
            f"{max(available, 1)} or give --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def launch(entry: Callable[..., Result], *arguments: object, nproc: int, name: str) -> Result:
    """Run ``entry(*arguments)`` on ``nproc`` ranks of this machine; return the first rank's result.

    One rank runs in this process. Under torchrun or TorchX, which have started the ranks already,
    this process is one of them.

    Raises:
        ValueError: What a rank raised, under the same type; likewise `OSError` and `PlanError`.
        RuntimeError: If a rank died of anything else.
    """
    if nproc == 1 or "RANK" in os.environ:
        return _as_rank(entry, *arguments)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    threads = max(1, len(os.sched_getaffinity(0)) // nproc)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nproc,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        start_method="spawn",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        results: dict[int, Result] = elastic_launch(config, _as_spawned_rank)(entry, *arguments)
    except ChildFailedError as error:
        raise _as_raised(error) from None
    except SignalException as error:
        # The agent has passed the signal on and waited for the ranks to write their checkpoint.
        raise Stopped(error.sigval) from None
    return results[0]


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The job was told to stop, and has stopped.

    Args:
        number: The signal that said so.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.signal = number


def _as_rank(entry: Callable[..., Result], *arguments: object) -> Result:
    configure_logs()
    keep_freed_memory()
    return entry(*arguments)


def _as_spawned_rank(entry: Callable[..., Result], *arguments: object) -> Result:
    result = _as_rank(entry, *arguments)
    stopped_by = getattr(result, "stopped_by", None)
    if stopped_by:
        # The agent is waiting for this process to end, and no longer for its result: without
        # this, torch's wrapper waits for the agent until it kills us.
        os._exit(128 + signal.Signals[stopped_by])
    return result


_KINDS: Final[tuple[type[Exception], ...]] = (ValueError, FloatingPointError, OSError)
"""Errors that a command turns into one line, whichever rank has raised them."""


def _as_raised(error: ChildFailedError) -> Exception:
    """The exception of the rank that failed first, as far as its message tells."""
    rank, failure = error.get_first_failure()
    record: object = failure.message  # what torch wrote into the rank's error file, or a line
    text = str(record["message"] if isinstance(record, dict) else record)
    raisers: dict[str, Callable[[str], Exception]] = {
        kind.__name__: kind for kind in [*_KINDS, *OSError.__subclasses__()]
    }
    raisers["PlanError"] = partial(PlanError, needed_bytes=0)
    name, _, rest = text.partition(": ")
    if name in raisers:
        return raisers[name](rest)
    return RuntimeError(f"rank {rank} failed with exit code {failure.exitcode}: {text}")


class StopRequest:
    """Whether somebody asked this job to stop: Ctrl-C, or SIGTERM from a scheduler."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take note of signals instead of dying of them; a later second Ctrl-C ends at once."""
        previous = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # A terminal sends Ctrl-C to every process, and torch's agent sends it to its ranks again.
        is_echo = time.monotonic() - self._since < ECHO_SECONDS
        if self.signal is not None and number == signal.SIGINT and not is_echo:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), time.monotonic()
