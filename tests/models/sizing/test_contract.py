"""What every registered scheme promises."""

from dataclasses import replace

import pytest
from hypothesis import given

from models.sizing import SIZING, Sizing
from models.tables import FieldStats
from tests.models.sizing.examples import CRITEO_ROWS, FIELDS, SCHEMES, fields_with

CRITEO_LIKE = fields_with(CRITEO_ROWS)

each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=list(SIZING))


@each_scheme
def test_a_scheme_is_registered_under_its_kind(scheme: Sizing) -> None:
    assert SIZING[scheme.kind] is type(scheme)


@each_scheme
@given(fields=FIELDS)
def test_widths_suit_fbgemm(scheme: Sizing, fields: list[FieldStats]) -> None:
    assert set(scheme(fields).dims().values()) <= {1, 2, *range(4, 1025, 4)}


@each_scheme
def test_every_field_has_all_its_rows(scheme: Sizing) -> None:
    plan = scheme(CRITEO_LIKE)
    assert [table.num_embeddings for table in plan.tables()] == CRITEO_ROWS


@each_scheme
@given(fields=FIELDS)
def test_order_of_fields_does_not_matter(scheme: Sizing, fields: list[FieldStats]) -> None:
    assert scheme(fields).dims() == scheme(fields[::-1]).dims()


@each_scheme
@given(fields=FIELDS)
def test_twice_the_examples_change_nothing(scheme: Sizing, fields: list[FieldStats]) -> None:
    doubled = [replace(stats, num_lookups=2 * stats.num_lookups) for stats in fields]
    assert scheme(doubled).dims() == scheme(fields).dims()


@each_scheme
@given(fields=FIELDS)
def test_the_widest_table_needs_no_projection(scheme: Sizing, fields: list[FieldStats]) -> None:
    plan = scheme(fields)
    assert max(plan.dims().values()) == plan.out_dim


@each_scheme
def test_the_record_holds_the_parameters_and_every_width_has_a_reason(scheme: Sizing) -> None:
    plan = scheme(CRITEO_LIKE)
    assert type(scheme)(**dict(plan.scheme)) == scheme  # type: ignore[arg-type]
    assert all(plan.reasons[name] for name in plan.fields)


@each_scheme
def test_the_grid_has_every_width_that_kernels_take(scheme: Sizing) -> None:
    assert list(scheme.grid) == [1, 2, *range(4, scheme.grid[-1] + 1, 4)]


@each_scheme
def test_no_fields_are_refused(scheme: Sizing) -> None:
    with pytest.raises(ValueError, match="no fields to size"):
        scheme([])
