"""Ranks: joining them, running on them, and what they agree on."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from service.allocator import keep_freed_memory
from service.job import job_id
from service.logs import configure_logs
from service.supervisor import die_with_parent, supervise

Result = TypeVar("Result")


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
    beside: dist.ProcessGroup
    """Another one, for what a thread says beside the training: on one group, two threads would
    answer each other."""

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the files that exist once."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on at least one rank; every rank gets the same answer."""
        return bool(self.largest(int(flag)))

    def largest(self, value: int) -> int:
        """The largest value of any rank; every rank gets the same answer."""
        if self.world_size == 1:
            return value
        values = torch.tensor([value])
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.control)
        return int(values.item())

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
    control, beside = (dist.new_group(backend="gloo", timeout=timeout) for _ in range(2))
    try:
        yield Ranks(
            rank=dist.get_rank(),
            local_rank=local_rank,
            world_size=dist.get_world_size(),
            local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            device=place,
            control=control,
            beside=beside,
        )
    finally:
        # Each has threads and connections: ranks that live through many trainings would collect
        # them. Without a group, all are meant.
        for group in (control, beside) if has_joined else (None,):
            dist.destroy_process_group(group)


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


def launch(
    entry: Callable[..., Result],
    *arguments: object,
    nproc: int,
    name: str,
    max_restarts: int = 0,
) -> Result:
    """Run ``entry(*arguments)`` on ``nproc`` ranks of this machine; return the first rank's result.

    One rank runs in this process, which nobody starts again. Under torchrun or TorchX, which have
    started the ranks already and start them again, this process is one of them.

    Raises:
        ValueError: What a rank raised, under the same type; likewise `OSError` and `PlanError`.
        Stopped: If this process was told to stop, and the ranks have.
        JobError: If ranks were lost more often than ``max_restarts``, or made no progress.
    """
    if "RANK" in os.environ:
        if job_id():
            die_with_parent()
        return _as_rank(entry, *arguments)
    if nproc == 1:
        return _as_rank(entry, *arguments)
    threads = max(1, len(os.sched_getaffinity(0)) // nproc)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    rank = partial(_as_rank, entry, *arguments)
    return supervise(rank, nproc=nproc, name=name, max_restarts=max_restarts)


def _as_rank(entry: Callable[..., Result], *arguments: object) -> Result:
    configure_logs()
    keep_freed_memory()
    return entry(*arguments)
