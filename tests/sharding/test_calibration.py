"""Calibration finds planted speeds again, and ranks narrow against wide tables as measured."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from sharding.calibration import Lookup, calibrate, median_error_ratio, predicted_seconds
from sharding.cluster import Cluster
from sharding.cost import seconds_per_id

PLANTED = Cluster(
    call_seconds=9e-5,
    lookup_seconds=17e-9,
    miss_seconds=30e-9,
    cache_bytes=8 * 2**20,
    cache_bytes_per_second=100e9,
    memory_bytes_per_second=40e9,
)
SHAPES = [
    ((size // (4 * width + 4), width),) * count
    for count, size, width in product((1, 8), (2**18, 2**24, 2**29), (4, 16, 128))
]


def timed(num_ids: int, shapes: tuple[tuple[int, int], ...]) -> Lookup:
    """What a machine with the planted speeds would take, by a formula written out once more."""
    seconds = 9e-5
    for rows, width in shapes:
        missed = max(0.0, 1 - 8 * 2**20 / (rows * (4 * width + 4)))
        cached_bytes, missed_bytes = (1 - missed) * 12 * width, missed * 12 * width
        seconds += num_ids * (17e-9 + 30e-9 * missed + cached_bytes / 100e9 + missed_bytes / 40e9)
    return Lookup(shapes=shapes, num_ids=num_ids, seconds=seconds)


STEPS = [timed(num_ids, shapes) for num_ids in (1024, 16384) for shapes in SHAPES]


def test_planted_speeds_are_found_again() -> None:
    found = calibrate(Cluster(), STEPS, "planted")
    for name in ("call", "lookup", "miss"):
        planted = getattr(PLANTED, f"{name}_seconds")
        assert getattr(found, f"{name}_seconds") == pytest.approx(planted, rel=1e-6)
    assert found.memory_bytes_per_second == pytest.approx(40e9)
    assert found.cache_bytes_per_second == pytest.approx(100e9)
    assert (found.cache_bytes, found.source) == (PLANTED.cache_bytes, "planted")


def test_noise_of_a_tenth_leaves_errors_of_a_tenth() -> None:
    noise = np.random.default_rng(0).uniform(0.9, 1.1, len(STEPS))
    noisy = [replace(s, seconds=s.seconds * x) for s, x in zip(STEPS, noise, strict=True)]
    assert median_error_ratio(STEPS, calibrate(Cluster(), noisy, "noisy")) < 0.05


def test_an_id_of_a_narrow_table_is_far_from_an_eighth_of_a_wide_ones() -> None:
    narrow, wide = (seconds_per_id(width, 2**30, PLANTED) for width in (4, 32))
    assert 0.7 < narrow / wide < 1


def test_without_a_calibration_bytes_alone_decide() -> None:
    narrow, wide = (seconds_per_id(width, 2**30, Cluster()) for width in (4, 32))
    assert wide == pytest.approx(8 * narrow)


def test_a_machine_without_a_cache_to_speak_of_needs_none() -> None:
    flat = [
        replace(s, seconds=predicted_seconds(s, replace(PLANTED, miss_seconds=0))) for s in STEPS
    ]
    found = calibrate(Cluster(), flat, "flat")
    assert predicted_seconds(STEPS[0], found) == pytest.approx(flat[0].seconds)


def test_too_few_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="5 measured lookups, expected at least 6"):
        calibrate(Cluster(), STEPS[:5], "few")


def test_rows_whose_width_costs_nothing_are_refused() -> None:
    free = [replace(step, seconds=1e-3) for step in STEPS]
    with pytest.raises(ValueError, match="wide rows were no slower"):
        calibrate(Cluster(), free, "free")
