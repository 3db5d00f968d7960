"""What a piece of work needs, whatever the process has done before."""

import sys

import numpy as np
import pytest

from service.peak_memory import PeakMemory

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory there was")
def test_only_what_is_held_at_once_since_it_began_is_its_own() -> None:
    np.ones(400 * MIB // 8)  # before, and freed again
    kept = np.ones(100 * MIB // 8)  # before, and still there
    peak = PeakMemory()
    for _ in range(2):
        np.ones(200 * MIB // 8)
    own, total = peak.own_bytes, peak.total_bytes
    assert own is not None
    assert total is not None
    assert own == pytest.approx(200 * MIB, rel=0.1)
    assert total > own + kept.nbytes
    anew = PeakMemory().own_bytes
    assert anew is not None
    assert anew < 20 * MIB
