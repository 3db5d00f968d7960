"""The exact solver against golden values and against a search without any cleverness."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sizing.rounding import Rounding, midpoints, width_grid
from models.sizing.solver import Cost, Tables, fill, trace, widths
from tests.models.sizing.examples import CRITEO_ROWS, GOLDEN

BUDGETS = GOLDEN["mde_criteo_kaggle_budget"]["cases"]
CASES = [(case, mode) for case, modes in BUDGETS.items() for mode in modes if "[" in mode]
TOY = [10, 100, 1000, 10000]


def shape(rows: list[int], alpha: float) -> list[float]:
    return [n**-alpha for n in rows]


def scaled(tables: Tables, budget: int) -> list[int] | None:
    path = trace(tables)
    state = path.last_within(budget)
    return None if state is None else widths(tables, path.levels(state))


def slow_cost(rows: list[int], dims: list[int], cost: Cost, out_dim: int | None) -> int:
    widest = out_dim or max(dims)
    total = 0
    for n, dim in zip(rows, dims, strict=True):
        total += n * (dim * cost.per_weight + cost.per_row)
        total += dim * widest * cost.per_projection_weight if dim < widest else 0
    return total


def slow_best(
    rows: list[int],
    asked: list[float],
    grid: list[int],
    cost: Cost,
    out_dim: int | None,
    budget: int,
) -> list[int] | None:
    """Try every factor at which one width changes; the largest that fits wins."""
    bounds = midpoints(grid, "mult4")
    best = None
    for factor in sorted({0.0} | {bound / wish for bound in bounds for wish in asked}):
        dims = [grid[sum(bound / wish <= factor for bound in bounds)] for wish in asked]
        if slow_cost(rows, dims, cost, out_dim) <= budget:
            best = dims
    return best


@pytest.mark.parametrize(("case", "mode"), CASES)
def test_criteo_budgets_are_solved_exactly(case: str, mode: str) -> None:
    alpha = float(case.split(",")[0].removeprefix("alpha="))
    rounding, limits = mode.removesuffix("]").split("[")
    low, high = map(int, limits.split(","))
    grid = width_grid(rounding, low, high)  # type: ignore[arg-type]
    tables = Tables.of(
        CRITEO_ROWS,
        shape(CRITEO_ROWS, alpha),
        grid=grid,
        cost=Cost(),
        rounding=rounding,  # type: ignore[arg-type]
    )
    assert scaled(tables, BUDGETS[case]["B"]) == BUDGETS[case][mode]["dims"]


@pytest.mark.parametrize("rounding", ["int", "pow2", "mult4"])
def test_the_toy_budget_with_projections_is_solved_exactly(rounding: Rounding) -> None:
    golden = GOLDEN["mde_budget_toy_withproj"][rounding]
    grid = width_grid(rounding, 4 if rounding == "mult4" else 1, 64)
    tables = Tables.of(TOY, shape(TOY, 0.3), grid=grid, cost=Cost(), rounding=rounding)
    assert scaled(tables, golden["B"]) == golden["dims"]
    assert slow_cost(TOY, golden["dims"], Cost(), None) == golden["total"]


def test_filling_criteo_leaves_almost_nothing_of_the_budget() -> None:
    golden = GOLDEN["mde_greedy_fill_criteo_alpha0.2_B8_mult4"]
    tables = Tables.of(CRITEO_ROWS, shape(CRITEO_ROWS, 0.2), grid=range(4, 65, 4), cost=Cost())
    path = trace(tables)
    budget = 8 * sum(CRITEO_ROWS)
    state = path.last_within(budget)
    assert state is not None
    assert fill(path, state, budget) == golden["dims"]
    assert sum(golden["emb_proj"]) / budget == pytest.approx(golden["util"])


@given(
    sizes=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9)), min_size=1, max_size=5),
    cost=st.builds(
        Cost,
        per_weight=st.integers(1, 12),
        per_row=st.integers(0, 4),
        per_projection_weight=st.integers(0, 12),
    ),
    out_dim=st.sampled_from([None, 16, 20, 24]),
    budget=st.integers(1, 20_000),
)
def test_the_solver_agrees_with_trying_every_factor(
    sizes: list[tuple[int, int]], cost: Cost, out_dim: int | None, budget: int
) -> None:
    rows, wishes = [n for n, _ in sizes], [float(wish) for _, wish in sizes]
    grid = list(range(4, 17, 4))
    tables = Tables.of(rows, wishes, grid=grid, cost=cost, out_dim=out_dim)
    assert scaled(tables, budget) == slow_best(rows, wishes, grid, cost, out_dim, budget)


def test_a_wider_budget_is_used_although_the_cost_is_not_monotone() -> None:
    tables = Tables.of([1, 1], [2.0, 1.0], grid=[4, 8], cost=Cost())
    assert trace(tables).costs.tolist() == [8, 12 + 4 * 8, 16]
    assert scaled(tables, 20) == [8, 8]


def test_a_single_allowed_width_is_a_plan() -> None:
    tables = Tables.of([5, 7], [1.0, 2.0], grid=[4], cost=Cost())
    assert scaled(tables, 48) == [4, 4]
    assert scaled(tables, 47) is None


def test_a_thousand_tables_take_less_than_two_seconds() -> None:
    rows = [3 + math.floor(1.02**index) for index in range(1000)]
    started = time.perf_counter()
    path = trace(Tables.of(rows, shape(rows, 0.3), grid=range(4, 601, 4), cost=Cost()))
    state = path.last_within(sum(rows) * 16)
    assert state is not None
    fill(path, state, sum(rows) * 16)
    assert time.perf_counter() - started < 2
