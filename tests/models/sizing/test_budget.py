"""Bytes of plans, budgets as text, and plans that fit a budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sizing import (
    SIZING,
    PopularityRule,
    Sizing,
    Solver,
    best_fit,
    parse_budget,
    plan_bytes,
    uniform_bytes,
)
from models.sizing.budget import BYTE_COST
from models.tables import Block, FieldStats, PlanError, SizingPlan, SparseOptimizer
from tests.models.sizing.examples import CRITEO_ROWS, FIELDS, SCHEMES, field, fields_with

ANY_SCHEME = st.sampled_from(SCHEMES)
OPTIMIZERS = st.sampled_from(sorted(BYTE_COST))
OUT_DIMS = st.sampled_from([None, 4, 16, 30, 64])


def block(num_embeddings: int, embedding_dim: int) -> Block:
    return Block(
        num_embeddings=num_embeddings, embedding_dim=embedding_dim, asked_dim=embedding_dim
    )


MIXED = SizingPlan(fields={"user": (block(10, 8), block(100, 4)), "day": (block(7, 8),)}, out_dim=8)


def fitted(
    scheme: Sizing,
    fields: list[FieldStats],
    budget: int,
    out_dim: int | None = None,
    solver: Solver = "exact",
) -> SizingPlan:
    return best_fit(scheme(fields), budget, grid=scheme.grid, out_dim=out_dim, solver=solver).plan


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [
        ("sgd", 0),
        ("rowwise_adagrad", 4 * 117),
        ("adagrad", 4 * (80 + 400 + 56)),
        ("adam", 8 * (80 + 400 + 56)),
    ],
)
def test_the_four_figures_count_what_they_say(optimizer: SparseOptimizer, state: int) -> None:
    cost = plan_bytes(MIXED, optimizer)
    assert cost.embedding_params == 10 * 8 + 100 * 4 + 7 * 8
    assert cost.projection_params == 4 * 8
    assert cost.training_bytes == 4 * 536 + state + 3 * 4 * 32
    assert cost.serving_bytes == 4 * (536 + 32)


def test_bytes_are_given_table_by_table() -> None:
    tables = plan_bytes(MIXED).tables
    assert list(tables) == ["user/0", "user/1", "day"]
    narrow = tables["user/1"]
    parts = (narrow.weights, narrow.optimizer_state, narrow.projection, narrow.projection_state)
    assert parts == (1600, 400, 128, 256)


@given(fields=FIELDS, optimizer=OPTIMIZERS)
def test_uniform_bytes_are_the_bytes_of_the_uniform_plan(
    fields: list[FieldStats], optimizer: SparseOptimizer
) -> None:
    plan = SIZING["uniform"]()(fields)
    assert uniform_bytes(fields, 16, optimizer) == plan_bytes(plan, optimizer).training_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000000", 1_000_000),
        ("512MiB", 512 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("2 kib", 2048),
        ("17b", 17),
        ("1x", 6800),
        ("4x", 1700),
        ("2.5x", 2720),
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_budgets_are_bytes_or_multiples(text: str, expected: int) -> None:
    assert parse_budget(text, base_bytes=6800) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "-4x", "0", "0x", "4 times", "1e9", "5 ib", "12 PB", "nan"]
)
def test_other_budgets_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number of bytes above zero; .*512MiB.*4x"):
        parse_budget(text, base_bytes=6800)


@given(
    scheme=ANY_SCHEME,
    fields=FIELDS,
    optimizer=OPTIMIZERS,
    out_dim=OUT_DIMS,
    budget=st.integers(1, 2_000_000),
)
def test_a_budget_is_never_exceeded_or_the_error_says_what_would_do(
    scheme: Sizing,
    fields: list[FieldStats],
    optimizer: SparseOptimizer,
    out_dim: int | None,
    budget: int,
) -> None:
    asked = scheme(fields)

    def trained_in(budget: int) -> int:
        grid = scheme.grid
        plan = best_fit(asked, budget, grid=grid, optimizer=optimizer, out_dim=out_dim).plan
        assert out_dim in {None, plan.out_dim}
        return plan_bytes(plan, optimizer).training_bytes

    try:
        assert trained_in(budget) <= budget
    except PlanError as error:
        assert str(error.needed_bytes) in str(error)
        assert error.needed_bytes > budget
        assert trained_in(error.needed_bytes) == error.needed_bytes


@given(
    scheme=ANY_SCHEME,
    fields=FIELDS,
    out_dim=OUT_DIMS,
    budget=st.integers(1, 1_000_000),
    more=st.integers(0, 1_000_000),
)
def test_more_budget_never_gives_fewer_parameters_by_filling(
    scheme: Sizing, fields: list[FieldStats], out_dim: int | None, budget: int, more: int
) -> None:
    try:
        small = fitted(scheme, fields, budget, out_dim, "fill")
    except PlanError as error:
        budget = error.needed_bytes
        small = fitted(scheme, fields, budget, out_dim, "fill")
    large = fitted(scheme, fields, budget + more, out_dim, "fill")
    assert plan_bytes(large).embedding_params >= plan_bytes(small).embedding_params


def test_a_little_more_budget_does_not_buy_projections_for_parameters() -> None:
    rows, lookups = (31, 25, 14, 32, 58), (668, 808, 97, 30, 856)
    fields = [field(f"C{n}", n, mass) for n, mass in zip(rows, lookups, strict=True)]
    scheme = PopularityRule(max_dim=16, alpha=0.8)
    small, large = (fitted(scheme, fields, budget, 16, "fill") for budget in (9464, 9502))
    assert plan_bytes(large).embedding_params >= plan_bytes(small).embedding_params


@given(scheme=ANY_SCHEME, fields=FIELDS, per_row=st.integers(120, 400))
def test_filling_keeps_the_order_of_what_was_asked(
    scheme: Sizing, fields: list[FieldStats], per_row: int
) -> None:
    rows = sum(stats.num_embeddings for stats in fields)
    plan = fitted(scheme, fields, rows * per_row, solver="fill")
    by_wish = sorted(
        (blocks[0].asked_dim, blocks[0].embedding_dim) for blocks in plan.fields.values()
    )
    assert [dim for _, dim in by_wish] == sorted(dim for _, dim in by_wish)


@given(scheme=ANY_SCHEME, fields=FIELDS, per_row=st.integers(120, 400))
def test_order_of_fields_does_not_matter_under_a_budget(
    scheme: Sizing, fields: list[FieldStats], per_row: int
) -> None:
    budget = per_row * sum(stats.num_embeddings for stats in fields)
    assert fitted(scheme, fields, budget).dims() == fitted(scheme, fields[::-1], budget).dims()


@given(scheme=ANY_SCHEME, fields=FIELDS, per_row=st.integers(20, 400))
def test_widths_under_a_budget_suit_fbgemm(
    scheme: Sizing, fields: list[FieldStats], per_row: int
) -> None:
    budget = per_row * sum(stats.num_embeddings for stats in fields)
    dims = set(fitted(scheme, fields, budget).dims().values())
    assert dims <= {1, 2, *range(4, 1025, 4)}


@pytest.mark.parametrize("bytes_per_row", [20, 67, 68, 83, 84])
def test_uniform_under_a_budget_is_the_widest_multiple_of_4_that_fits(bytes_per_row: int) -> None:
    plan = fitted(SIZING["uniform"](), fields_with([10, 20]), 30 * bytes_per_row)
    assert set(plan.dims().values()) == {(bytes_per_row // 4 - 1) // 4 * 4}


def test_popularity_uses_criteos_budget_almost_up() -> None:
    fields = fields_with(CRITEO_ROWS)
    budget = uniform_bytes(fields, 16)
    plan = fitted(SIZING["popularity"](), fields, budget)
    assert 0.999 < plan_bytes(plan).training_bytes / budget <= 1
    assert len(set(plan.dims().values())) > 3


def test_asked_widths_survive_the_budget() -> None:
    scheme = SIZING["popularity"]()
    fields = [field("day", 7), field("user", 5000)]
    asked = [blocks[0].asked_dim for blocks in scheme(fields).fields.values()]
    plan = fitted(scheme, fields, 200_000)
    assert [blocks[0].asked_dim for blocks in plan.fields.values()] == asked


def test_an_out_dim_below_the_narrowest_width_is_refused() -> None:
    with pytest.raises(ValueError, match="out_dim=3 is narrower than the narrowest table, 4"):
        fitted(PopularityRule(min_dim=4), fields_with([10]), 1000, out_dim=3)
