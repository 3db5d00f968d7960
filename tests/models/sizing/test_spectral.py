"""Spectral sizing against the full SVD, against loops and against every plan there is."""

from itertools import product

import numpy as np
import pytest

from models.sizing import Serving, Spectral, best_fit, plan_bytes
from models.sizing.spectral import (
    balanced_pair,
    directions,
    effective_rank,
    kept_energy,
    second_moment,
    spectrum_of,
)
from models.tables import PlanError
from tests.models.sizing.examples import field

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(50, 6)) * [5, 3, 2, 1, 0.5, 0.2]
LOOKUPS = RNG.integers(0, 20, 50)
GRADIENTS = RNG.normal(size=(80, 6)) @ RNG.normal(size=(6, 6))
MOMENT = VECTORS.T @ np.diag(LOOKUPS) @ VECTORS
SENSITIVITY = GRADIENTS.T @ GRADIENTS


def lost(approximation, gradients):
    """Weighted squares of what an approximation changes of all dots with gradients."""
    changes = (VECTORS - approximation) @ gradients.T
    return float((LOOKUPS[:, None] * changes**2).sum())


def test_the_second_moment_is_a_sum_over_ids_whatever_the_pieces():
    expected = sum(
        c * np.outer(v, v)
        for v, c in zip(VECTORS.astype(np.float32).astype(float), LOOKUPS, strict=True)
    )
    pieces = [(VECTORS[a:b].astype(np.float32), LOOKUPS[a:b]) for a, b in ((0, 7), (7, 50))]
    assert np.allclose(second_moment(pieces), expected, rtol=1e-9)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_without_a_metric_directions_are_the_truncated_svd(width):
    roots = np.sqrt(LOOKUPS)[:, None]
    left, values, right = np.linalg.svd(roots * VECTORS, full_matrices=False)
    truncated = left[:, :width] * values[:width] @ right[:width]
    down, up = directions(MOMENT)
    assert np.allclose(roots * (VECTORS @ down[:, :width] @ up[:width]), truncated, atol=1e-8)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_with_a_metric_no_table_of_the_width_changes_the_output_less(width):
    values, axes = np.linalg.eigh(SENSITIVITY)
    root = (axes * np.sqrt(values)) @ axes.T
    singular = np.linalg.svd(np.sqrt(LOOKUPS)[:, None] * VECTORS @ root, compute_uv=False)
    down, up = directions(MOMENT, SENSITIVITY)
    found = lost(VECTORS @ down[:, :width] @ up[:width], GRADIENTS)
    assert np.isclose(found, (singular[width:] ** 2).sum())
    assert found < lost(VECTORS @ np.eye(6)[:, :width] @ np.eye(6)[:width], GRADIENTS)


def test_all_directions_together_change_nothing():
    down, up = directions(MOMENT, SENSITIVITY)
    assert np.allclose(down @ up, np.eye(6))


def test_a_field_that_was_never_trained_has_directions():
    down, up = directions(np.zeros((4, 4)), np.zeros((4, 4)))
    assert np.allclose(down @ up, np.eye(4))


@pytest.mark.parametrize("width", [1, 3])
def test_a_balanced_pair_keeps_the_dots_of_two_fields_best(width):
    users, items = VECTORS, RNG.normal(size=(30, 6))
    reads, weights = np.sqrt(LOOKUPS), np.sqrt(RNG.integers(1, 9, 30))
    moment = items.T @ np.diag(weights**2) @ items
    first, second = balanced_pair(MOMENT, moment, width)
    dots = np.diag(reads) @ users @ items.T @ np.diag(weights)
    kept = np.diag(reads) @ (users @ first) @ (items @ second).T @ np.diag(weights)
    singular = np.linalg.svd(dots, compute_uv=False)
    assert np.isclose(((dots - kept) ** 2).sum(), (singular[width:] ** 2).sum())
    lengths = [np.linalg.norm(np.diag(reads) @ users @ first, axis=0)]
    lengths.append(np.linalg.norm(np.diag(weights) @ items @ second, axis=0))
    assert np.allclose(*lengths)


def test_a_wider_table_is_never_worth_less():
    saved = spectrum_of([1.0, 0.7, 0.8, 0.6, 0.9], np.zeros(4))
    assert np.allclose(saved, [0.3, 0.0, 0.1, 0.0])
    assert kept_energy(saved)[-1] == pytest.approx(0.4)


def test_what_saves_nothing_that_is_seen_is_ordered_by_what_it_carries():
    weak, none = spectrum_of([0.5, 0.5, 0.6], [0.2, 0.1]), spectrum_of([0.5, 0.5, 0.6], [0.0, 0.0])
    assert weak[0] > weak[1] > 0 == none[0] == none[1]
    assert sum(weak) < 1e-3


def test_the_effective_rank_counts_what_is_worth_more_than_the_slack():
    kept = kept_energy([0.5, 0.3, 0.0, 0.01])
    assert [effective_rank(kept, slack) for slack in (0.0, 0.05, 0.4, 1.0)] == [4, 2, 1, 0]


def test_noise_gets_the_narrowest_table_and_a_wide_spectrum_a_wide_one():
    scheme = Spectral(spectra={"noise": [0.0] * 8, "wide": [0.1] * 8, "one": [0.5, *[0.0] * 7]})
    plan = scheme([field(name, 100) for name in ("noise", "wide", "one")])
    assert plan.dims() == {"noise": 1, "wide": 8, "one": 1}
    assert "effective rank 0 of 8" in plan.reasons["noise"]


def test_a_budget_is_spent_on_the_most_energy_of_all_plans():
    rows = {"a": 40, "b": 15, "c": 90}
    spectra = {name: list(RNG.exponential(size=8) / np.arange(1, 9)) for name in rows}
    scheme = Spectral(spectra=spectra)
    asked = scheme([field(name, n) for name, n in rows.items()])
    plans = {}
    for dims in product((1, 2, 4, 8), repeat=3):
        named = dict(zip(rows, dims, strict=True))
        one = asked.one_block_each([field(n, r) for n, r in rows.items()], named, out_dim=8)
        energy = sum(kept_energy(spectra[name])[dim] for name, dim in named.items())
        plans[plan_bytes(one).training_bytes] = max(
            energy, plans.get(plan_bytes(one).training_bytes, 0)
        )
    for budget in (1500, 2500, 4000):
        fitted = best_fit(
            asked, budget, grid=scheme.grid, out_dim=8, values=scheme.values(asked)
        ).plan
        energy = sum(kept_energy(spectra[name])[dim] for name, dim in fitted.dims().items())
        assert np.isclose(energy, max(e for size, e in plans.items() if size <= budget))


def test_more_money_than_energy_is_not_spent():
    scheme = Spectral(spectra={"noise": [0.0] * 8, "one": [0.5, *[0.0] * 7]})
    asked = scheme([field("noise", 100), field("one", 100)])
    fitted = best_fit(asked, 1_000_000, grid=scheme.grid, values=scheme.values(asked)).plan
    assert fitted.dims() == {"noise": 1, "one": 1}


def test_a_budget_is_spent_for_enough_of_the_energy_and_no_more():
    spectra = {"noise": [1e-6] * 8, "wide": [0.1] * 8, "steep": [0.1**k for k in range(8)]}
    fields = [field(name, 100) for name in spectra]

    def widths(**shares):
        scheme = Spectral(spectra=spectra, **shares)
        asked = scheme(fields)
        return best_fit(asked, 10**6, grid=scheme.grid, values=scheme.values(asked)).plan.dims()

    # A thousandth of what all save, 1.91, by three: .00064; what "steep" loses at 4 is .00011.
    assert widths() == {"noise": 1, "wide": 8, "steep": 4}
    assert widths(enough=1.0) == {"noise": 8, "wide": 8, "steep": 8}


def test_a_budget_for_the_cheapest_plan_is_enough_though_its_tables_are_wide():
    fields = [field("noise", 3), field("large", 50)]  # 3 rows are cheaper 16 wide: no projection
    scheme = Spectral(spectra={"noise": [0.0] * 16, "large": [0.1] * 16})
    asked = scheme(fields)
    least = min(
        plan_bytes(
            asked.one_block_each(fields, {"noise": a, "large": b}, out_dim=16)
        ).training_bytes
        for a, b in product((1, 2, 4, 8, 12, 16), repeat=2)
    )
    fitted = best_fit(asked, least, grid=scheme.grid, out_dim=16, values=scheme.values(asked)).plan
    assert fitted.dims() == {"noise": 16, "large": 1}


def test_enough_is_reached_where_the_served_type_does_not_take_its_width():
    scheme = Spectral(spectra={"three": [0.1] * 3 + [0.0] * 5}, rounding="int")
    asked, served = scheme([field("three", 100)]), Serving(dtype="int8")
    grid, values = served.grid(scheme.grid), scheme.values(asked)
    fitted = best_fit(asked, 10**6, grid=grid, serving=served, values=values).plan
    assert fitted.dims() == {"three": 4}  # int8 rows are evenly wide


def test_a_field_without_a_spectrum_is_refused():
    with pytest.raises(ValueError, match=r"knows nothing of the fields \['b'\].*--warm-up RUN"):
        Spectral(spectra={"a": [1.0]})([field("a", 3), field("b", 3)])


@pytest.mark.parametrize("name", ["energy", "enough"])
@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_outside_of_its_range_is_refused(name, share):
    with pytest.raises(ValueError, match=rf"{name}={share}, expected in \(0, 1\]"):
        Spectral(**{name: share})


@pytest.mark.parametrize("spectrum", [[], [0.3, -0.1]])
def test_a_spectrum_that_saves_nothing_or_less_is_refused(spectrum):
    with pytest.raises(ValueError, match="spectrum of field 'a'"):
        Spectral(spectra={"a": spectrum})


def test_a_budget_below_the_narrowest_tables_names_what_would_do():
    scheme = Spectral(spectra={"a": [1.0, 0.5]})
    asked = scheme([field("a", 100)])
    with pytest.raises(PlanError, match="too small"):
        best_fit(asked, 100, grid=scheme.grid, values=scheme.values(asked))
