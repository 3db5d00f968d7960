"""How fast the ranks of this machine exchange pooled vectors: gloo's all-to-all, timed."""

import socket
import time
from multiprocessing.queues import SimpleQueue
from typing import Final

import torch
import torch.distributed
import torch.multiprocessing

from models.tables import FLOAT_BYTES

BLOCK_BYTES: Final = (1 << 20, 8 << 20)
"""Bytes that every rank sends to every other: a small and a large step's pooled vectors."""
NUM_EXCHANGES: Final = 20


def measure_links(num_ranks: int) -> float:
    """Bytes a second that a rank sends to the others, every rank at once; the slower block's.

    Raises:
        ValueError: If there is nobody to exchange with.
    """
    if num_ranks < 2:
        raise ValueError(f"num_ranks={num_ranks}, expected at least 2 ranks to exchange anything")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = torch.multiprocessing.get_context("spawn").SimpleQueue()
    arguments = (num_ranks, port, answers)
    torch.multiprocessing.spawn(_exchange, arguments, num_ranks)  # type: ignore[no-untyped-call]
    found: float = answers.get()
    return found


def _exchange(rank: int, num_ranks: int, port: int, answers: "SimpleQueue[float]") -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=num_ranks
    )
    speeds = []
    for num_bytes in BLOCK_BYTES:
        sent = torch.ones(num_ranks * num_bytes // FLOAT_BYTES)
        received = torch.empty_like(sent)
        fastest = float("inf")
        for _ in range(NUM_EXCHANGES):
            torch.distributed.barrier()
            start = time.perf_counter()
            torch.distributed.all_to_all_single(received, sent)
            fastest = min(fastest, time.perf_counter() - start)
        speeds.append((num_ranks - 1) * num_bytes / fastest)
    if rank == 0:
        answers.put(min(speeds))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
