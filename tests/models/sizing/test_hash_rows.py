"""The hashing trick: exact rows, and the most of them that a budget pays for."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sizing import HashRows, plan_bytes
from models.tables import FieldStats, PlanError
from tests.models.sizing.examples import FIELDS, fields_with


def training_bytes(fields: list[FieldStats]) -> Callable[[HashRows], int]:
    return lambda scheme: plan_bytes(scheme(fields)).training_bytes


@given(num_ids=st.integers(1, 10**9), thousandths=st.integers(1, 1000))
def test_rows_are_the_share_of_ids_rounded_up(num_ids: int, thousandths: int) -> None:
    table = next(HashRows(ratio=thousandths / 1000)(fields_with([num_ids])).tables())
    assert table.num_embeddings == math.ceil(Fraction(thousandths, 1000) * num_ids)
    assert table.num_ids == num_ids


def test_small_tables_are_left_whole() -> None:
    plan = HashRows(ratio=0.1, whole_rows=100)(fields_with([100, 101]))
    assert [(t.num_embeddings, t.hashed_ids) for t in plan.tables()] == [(100, 0), (11, 90)]


@given(fields=FIELDS, share=st.floats(0.05, 1.5))
def test_a_budget_gets_all_the_rows_it_pays_for(fields: list[FieldStats], share: float) -> None:
    count = training_bytes(fields)
    budget = max(int(count(HashRows()) * share), count(HashRows(ratio=1e-9)))
    found = HashRows().within(budget, count)
    assert count(found) <= budget
    more = replace(found, ratio=min(1.0, found.ratio + 1e-9))
    assert found.ratio == 1.0 or count(more) > budget


def test_a_budget_below_one_row_a_field_is_refused_with_what_would_do() -> None:
    count = training_bytes(fields_with([10, 10**6]))
    scheme = HashRows(whole_rows=10)
    with pytest.raises(PlanError, match=r"give --budget 748, lower --whole-rows 10") as caught:
        scheme.within(747, count)
    assert scheme.within(caught.value.needed_bytes, count).ratio == pytest.approx(1e-6)


@pytest.mark.parametrize("ratio", [0.0, 1.1, -1.0])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="expected in \\(0, 1\\]"):
        HashRows(ratio=ratio)
