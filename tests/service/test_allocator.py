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
def faults_of_30_steps():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30): layers(inputs).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults_of_30_steps()
print(faults_of_30_steps())
"""


def faults(how: str) -> int:
    """Page faults of 30 training steps, once the heap has its size."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_a_step_reuses_the_memory_of_the_step_before() -> None:
    assert faults("keep") < 0.3 * faults("default")
