"""Reuse of freed memory, measured by page faults in a process of its own."""

import subprocess
import sys

import pytest

from service.allocator import keep_freed_memory

COUNT_FAULTS = """
import resource, sys
import torch
from service.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    raise SystemExit("not glibc")
torch.set_num_threads(1)
layers = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(8)))
inputs = torch.randn(2048, 256)
def faults_of_10_steps():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): layers(inputs).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*(faults_of_10_steps() for _ in range(9)))
"""


def faults(how: str) -> list[int]:
    """Page faults of each ten of ninety training steps, fewest first."""
    command = [sys.executable, "-c", COUNT_FAULTS, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return sorted(map(int, done.stdout.split()))


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_a_step_reuses_the_memory_of_the_step_before() -> None:
    middle = 4  # the heap still grows at first
    assert faults("keep")[middle] < 0.1 * faults("default")[middle]
