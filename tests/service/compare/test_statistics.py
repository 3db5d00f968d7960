"""Quantiles against printed tables, intervals against a worked example."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.compare.statistics import paired_difference, summary, t_coverage, t_quantile

# NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, and the usual tables to 10 digits.
PRINTED = {
    1: 12.7062047362,
    2: 4.3026527297,
    3: 3.1824463053,
    4: 2.7764451052,
    5: 2.5705818356,
    9: 2.2621571628,
    10: 2.2281388520,
    30: 2.0422724563,
    120: 1.9799304051,
}


@pytest.mark.parametrize("freedom", PRINTED)
def test_quantiles_equal_the_printed_tables(freedom):
    assert t_quantile(0.95, freedom) == pytest.approx(PRINTED[freedom], abs=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12])
def test_coverage_equals_the_integral_of_the_density(freedom):
    t = np.linspace(-2, 2, 400_001)
    constant = math.gamma((freedom + 1) / 2) / (
        math.sqrt(freedom * math.pi) * math.gamma(freedom / 2)
    )
    density = constant * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    assert t_coverage(2, freedom) == pytest.approx(np.trapezoid(density, t), abs=1e-9)


def test_an_interval_is_that_of_the_textbook():
    # Five values of mean 3 and variance 2.5: 3 +- 2.776 * sqrt(2.5 / 5).
    found = summary([1, 2, 3, 4, 5])
    assert (found.mean, found.n) == (3, 5)
    assert found.sd == pytest.approx(math.sqrt(2.5))
    assert found.half_width == pytest.approx(2.7764451052 * math.sqrt(0.5))
    assert found.high - 3 == pytest.approx(3 - found.low)


def test_one_value_has_no_spread_and_no_interval():
    found = summary([7.0])
    assert (found.low, found.mean, found.high, found.n) == (7, 7, 7, 1)
    assert math.isnan(found.sd) and math.isnan(found.half_width)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8), st.floats(-10, 10))
def test_pairing_removes_what_the_seeds_have_in_common(common, gain):
    ours = {seed: value + gain for seed, value in enumerate(common)}
    found = paired_difference(ours, dict(enumerate(common)))
    assert found.mean == pytest.approx(gain, abs=1e-9)
    assert found.half_width == pytest.approx(0, abs=1e-9)


def test_only_seeds_that_both_have_are_paired():
    found = paired_difference({0: 1.0, 1: 3.0, 2: 90.0}, {0: 0.5, 1: 1.5, 7: -50.0})
    assert (found.mean, found.n) == (fmean([0.5, 1.5]), 2)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_no_interval_without_a_degree_of_freedom():
    with pytest.raises(ValueError, match="0 degrees of freedom"):
        t_quantile(0.95, 0)
