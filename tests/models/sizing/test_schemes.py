"""The rules against the values that their papers and reference code give."""

import math

import pytest

from models.sizing import FastaiRule, PopularityRule, Uniform
from models.sizing.fastai import emb_sz_rule
from models.sizing.popularity import (
    popularity_dims,
    scale_with_projections,
    scale_without_projections,
)
from models.sizing.rounding import Rounding, dlrm_pow2, round_dim, round_up, width_grid
from tests.models.sizing.examples import CRITEO_ROWS, GOLDEN, field, fields_with

TOY = GOLDEN["mde_d0_toy"]["n"]
TOY_POPULARITY = [1 / n for n in TOY]
DLRM = GOLDEN["mde_dlrm_md_solver_reference"]
FLOORED = GOLDEN["mde_n_floor_variant"]["cases"]


def parameters(name: str) -> dict[str, float]:
    """Numbers of a golden case's name: ``alpha=0.3,d0=16``."""
    pairs = (part.split("=") for part in name.split(",") if "=" in part)
    return {key: float(value) for key, value in pairs}


def rounded(rows: list[int], alpha: float, base: float, mode: Rounding = "int") -> list[int]:
    grid = width_grid(mode, 4 if mode == "mult4" else 1, int(base))
    return [round_dim(d, grid, mode) for d in popularity_dims([1 / n for n in rows], alpha, base)]


@pytest.mark.parametrize(("rows", "dim"), GOLDEN["fastai_emb_sz_rule"]["values"].items())
def test_fastai_rule_gives_fastais_widths(rows: str, dim: int) -> None:
    assert emb_sz_rule(int(rows)) == dim


def test_fastai_rule_reaches_its_cap_where_fastai_does() -> None:
    first = GOLDEN["fastai_emb_sz_rule"]["smallest_n_giving_600"]
    assert (emb_sz_rule(first - 1), emb_sz_rule(first)) == (599, 600)


@pytest.mark.parametrize(("rows", "dim"), GOLDEN["fastai_mult4"]["values"].items())
def test_fastai_rule_rounds_up_for_the_kernels(rows: str, dim: int) -> None:
    assert FastaiRule()([field("user", int(rows))]).dims() == {"user": dim}


def test_fastai_rule_is_dearer_than_uniform_on_criteo_as_documented() -> None:
    plan = FastaiRule()(fields_with(CRITEO_ROWS))
    golden = GOLDEN["fastai_criteo_total"]
    assert sum(emb_sz_rule(n) * n for n in CRITEO_ROWS) == golden["params"]
    assert sum(t.num_embeddings * t.embedding_dim for t in plan.tables()) == golden["params_mult4"]


def test_fastai_overrides_win_over_rule_and_cap() -> None:
    rule = FastaiRule(max_dim=32, overrides={"user": 50})
    plan = rule([field("user", 944), field("item", 1635)])
    assert plan.fields["user"][0].asked_dim == 50
    assert plan.dims() == {"user": 52, "item": 32}


@pytest.mark.parametrize(
    ("max_dim", "num_ids", "is_capped"),
    [(600, 39_432, False), (600, 40_000, True), (72, 944, True), (76, 944, False)],
)
def test_fastai_rule_says_where_its_cap_decides(
    max_dim: int, num_ids: int, is_capped: bool
) -> None:
    reasons = FastaiRule(max_dim=max_dim)([field("user", num_ids)]).reasons
    assert reasons["user"].endswith(", capped") == is_capped


@pytest.mark.parametrize(
    ("mode", "dims"), [(mode, GOLDEN["mde_d0_toy"][mode]) for mode in ("int", "pow2", "mult4")]
)
def test_popularity_matches_the_toy_of_the_paper(mode: Rounding, dims: list[int]) -> None:
    asked = popularity_dims(TOY_POPULARITY, 0.3, 32)
    assert asked == pytest.approx(GOLDEN["mde_d0_toy"]["real"], rel=1e-12)
    assert rounded(TOY, 0.3, 32, mode) == dims


def test_popularity_rule_gives_the_toys_widths() -> None:
    plan = PopularityRule(max_dim=32, alpha=0.3)(fields_with(TOY))
    assert list(plan.dims().values()) == GOLDEN["mde_d0_toy"]["mult4"]


def test_popularity_matches_the_closed_form_of_the_paper() -> None:
    plan = PopularityRule(max_dim=64, alpha=0.5)([field("small", 100), field("large", 1600)])
    assert plan.dims() == {"small": 64, "large": 16}  # 64 * (1 / 16) ** 0.5


@pytest.mark.parametrize("case", GOLDEN["mde_criteo_kaggle_d0"]["cases"])
def test_popularity_matches_criteo_at_a_fixed_base_width(case: str) -> None:
    alpha, base = parameters(case).values()
    golden = GOLDEN["mde_criteo_kaggle_d0"]["cases"][case]
    dims = rounded(CRITEO_ROWS, alpha, base)
    assert dims == golden["dims_int_min1"]
    assert sum(n * d for n, d in zip(CRITEO_ROWS, dims, strict=True)) == golden["emb"]


@pytest.mark.parametrize("base", [16, 32])
def test_popularity_matches_the_output_of_dlrms_md_solver(base: int) -> None:
    asked = popularity_dims([1 / n for n in CRITEO_ROWS], 0.3, base)
    assert rounded(CRITEO_ROWS, 0.3, base) == DLRM[f"d0={base}"]
    assert [dlrm_pow2(dim) for dim in asked] == DLRM[f"d0={base},round_dim"]


def test_popularity_matches_md_solvers_budget_mode() -> None:
    popularity = [1 / n for n in CRITEO_ROWS]
    scale = scale_without_projections(CRITEO_ROWS, popularity, 0.3, 4 * sum(CRITEO_ROWS))
    grid = width_grid("int", 1, 1000)
    dims = [round_dim(scale * p**0.3, grid, "int") for p in popularity]
    assert dims == DLRM["B=4*sum(n) (no projections, no cap)"]


def test_md_solvers_toy_is_matched_in_its_order_of_tables() -> None:
    rows = [10131227, 3, 583, 93145]
    asked = popularity_dims([1 / n for n in rows], 0.3, 32)
    assert rounded(rows, 0.3, 32) == DLRM["toy n=[10131227,3,583,93145] d0=32"]
    assert [dlrm_pow2(dim) for dim in asked] == DLRM["toy round_dim"]


@pytest.mark.parametrize("case", FLOORED)
def test_a_floor_of_rows_keeps_tiny_tables_from_setting_the_scale(case: str) -> None:
    alpha, base, floor = parameters(case).values()
    mode: Rounding = "mult4" if case.endswith("mult4") else "int"
    asked = popularity_dims([1 / max(n, floor) for n in CRITEO_ROWS], alpha, base)
    grid = width_grid(mode, 4 if mode == "mult4" else 1, int(base))
    assert [round_dim(dim, grid, mode) for dim in asked] == FLOORED[case]["dims"]
    if mode == "mult4":
        rule = PopularityRule(max_dim=int(base), alpha=alpha, n_floor=int(floor), min_dim=4)
        assert list(rule(fields_with(CRITEO_ROWS)).dims().values()) == FLOORED[case]["dims"]


def test_scale_without_projections_spends_the_budget_to_the_last_parameter() -> None:
    golden = GOLDEN["mde_budget_toy_noproj"]
    scale = scale_without_projections(TOY, TOY_POPULARITY, 0.3, golden["B"])
    real = [scale * p**0.3 for p in TOY_POPULARITY]
    assert scale == pytest.approx(golden["lambda"], rel=1e-12)
    assert real == pytest.approx(golden["real"], rel=1e-12)
    assert math.fsum(n * d for n, d in zip(TOY, real, strict=True)) == pytest.approx(golden["B"])


def test_scale_with_projections_spends_the_budget_to_the_last_parameter() -> None:
    golden = GOLDEN["mde_budget_toy_withproj"]
    scale = scale_with_projections(TOY, TOY_POPULARITY, 0.3, 44440)
    real = [scale * p**0.3 for p in TOY_POPULARITY]
    projections = real[0] * math.fsum(real[1:])
    assert scale == pytest.approx(golden["lambda"], rel=1e-12)
    assert real == pytest.approx(golden["real"], rel=1e-12)
    spent = math.fsum(n * d for n, d in zip(TOY, real, strict=True)) + projections
    assert spent == pytest.approx(44440, rel=1e-12)


def test_equal_widths_leave_nothing_to_project() -> None:
    assert scale_with_projections([10, 30], [0.1, 0.2], 0.0, 160) == pytest.approx(4.0)


@pytest.mark.parametrize(("dim", "power"), GOLDEN["pow2_boundaries"]["map"].items())
def test_powers_of_two_are_those_of_dlrm(dim: str, power: int) -> None:
    assert dlrm_pow2(float(dim)) == power


def test_dlrm_rounds_to_an_integer_first_and_we_do_not() -> None:
    assert (dlrm_pow2(11.4), round_dim(11.4, width_grid("pow2", 1, 64), "pow2")) == (8, 16)


def test_rounding_goes_to_the_nearest_and_halfway_up() -> None:
    grid = width_grid("mult4", 4, 16)
    assert [round_dim(d, width_grid("mult4", 1, 8)) for d in (0, 1.5, 2.9, 3)] == [1, 2, 2, 4]
    assert [round_dim(d, grid) for d in (0, 4, 5.9, 6, 9.99, 99)] == [4, 4, 4, 8, 8, 16]
    assert [round_up(d) for d in (0.1, 1.5, 3, 4, 4.1, 74)] == [1, 2, 4, 4, 8, 76]
    assert [round_up(d, "pow2") for d in (0.1, 3, 4, 74)] == [1, 4, 4, 128]
    assert [round_up(d, "int") for d in (0.1, 3, 4.1, 74)] == [1, 3, 5, 74]


def test_fewer_rows_are_never_narrower_when_looked_up_equally_often() -> None:
    dims = list(PopularityRule(n_floor=200)(fields_with(sorted(CRITEO_ROWS))).dims().values())
    assert dims == sorted(dims, reverse=True)


def test_alpha_0_is_uniform() -> None:
    plan = PopularityRule(alpha=0, max_dim=16)(fields_with(CRITEO_ROWS))
    assert set(plan.dims().values()) == {16}


def test_a_field_that_is_never_read_gets_the_narrowest_width() -> None:
    plan = PopularityRule()([field("read", 10), field("unread", 10, 0)])
    assert plan.dims() == {"read": 64, "unread": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(dim=30), "dim=30, expected 1, 2 or a multiple of 4 .* try 32"),
        (lambda: FastaiRule(max_dim=-1), "max_dim=-1, expected 1, 2 or a multiple of 4 .* try 1"),
        (lambda: FastaiRule(overrides={"user": 0}), "field 'user' has width 0"),
        (lambda: PopularityRule(min_dim=32, max_dim=16), "min_dim=32 exceeds max_dim=16"),
        (lambda: PopularityRule(alpha=1.5), "alpha=1.5, expected 0"),
        (lambda: PopularityRule(n_floor=0), "n_floor=0, expected at least 1"),
        (lambda: PopularityRule()([field("C1", 3, 0)]), "no field is ever looked up"),
        (
            lambda: FastaiRule(overrides={"usr": 8})([field("user", 3)]),
            r"overrides name \['usr'\], .* fields: \['user'\]",
        ),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
