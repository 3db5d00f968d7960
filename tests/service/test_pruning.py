"""The threshold against sorting all weights."""

from types import SimpleNamespace

import numpy as np
import pytest

from service.pruning import lowest_cut


def run_of(**tables):
    """What is read of a run: its tables, in two pieces."""

    def pieces(field, first, end):
        half = end // 2
        yield 0, tables[field][:half]
        yield half, tables[field][half:end]

    fields = {name: (SimpleNamespace(num_ids=len(own)),) for name, own in tables.items()}
    return SimpleNamespace(plan=SimpleNamespace(fields=fields), pieces=pieces)


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    spread = (rng.normal(size=(500, 4)) * 10.0 ** rng.integers(-9, 3, (500, 4))).astype(np.float32)
    near = np.float32(0.5) + rng.integers(0, 90, (40, 4)).astype(np.float32) * np.float32(2**-24)
    return {"spread": spread, "near": near}


@pytest.mark.parametrize("most", [0, 1, 7, 160, 400, 1159, 2159, 2160, 9999])
def test_the_lowest_threshold_keeps_as_many_as_fit(tables, most):
    cut = lowest_cut(run_of(**tables), list(tables), lambda kept: sum(kept.values()) <= most)
    kept = {
        name: np.count_nonzero(np.abs(own) >= np.float32(cut.threshold))
        for name, own in tables.items()
    }
    assert cut.kept == kept
    magnitudes = np.sort(np.abs(np.concatenate([own.ravel() for own in tables.values()])))
    border = [t for t in (0.0, *magnitudes) if np.sum(magnitudes >= t) <= most]
    if border:  # keeping one magnitude more would be too many
        assert sum(kept.values()) == np.sum(magnitudes >= border[0])
    else:
        assert sum(kept.values()) == 0


def test_fields_that_are_not_named_lose_nothing(tables):
    cut = lowest_cut(run_of(**tables), ["near"], lambda kept: kept["near"] <= 80)
    assert cut.kept.keys() == {"near"}
    assert 0.5 < cut.threshold < 0.500006


def test_what_never_fits_has_no_threshold(tables):
    assert lowest_cut(run_of(**tables), list(tables), lambda kept: False) is None
