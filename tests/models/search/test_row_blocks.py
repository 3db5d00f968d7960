"""Blocks of profiles against the specification's example, and the best of them counted out."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from models.search.nis_options import cells_of, profiles
from models.search.row_blocks import Prices, best_blocks, blocks_of, row_ends
from models.sizing import plan_bytes
from models.tables import PlanError, SizingPlan

SHARES = (0.1, 0.3, 0.5, 0.7, 1.0)
TEN_MILLION = row_ends(10_000_000, SHARES)
PRICES = Prices(out_dim=256, join="pad", optimizer="sgd")
SMALL = replace(PRICES, out_dim=16, join="project", optimizer="adagrad")


def params(blocks):
    return sum(b.num_embeddings * b.embedding_dim for b in blocks if not b.hashed_ids)


@pytest.mark.parametrize(
    ("profile", "golden"),
    [
        ((192, 192, 192, 192, 0), 1_344_000_000),
        ((256, 256, 64, 64, 0), 1_024_000_000),
        ((256,) * 5, 2_560_000_000),
    ],
)
def test_memory_is_that_of_the_papers_example(profile, golden):
    assert params(blocks_of(profile, TEN_MILLION, PRICES)) == golden


def test_options_are_as_many_as_specified():
    single, multi = cells_of("single", 5, 4), cells_of("multi", 5, 4)
    assert single.shape == (1, 21, 5, 4)
    assert multi.shape == (4, 6, 5, 4)
    assert 6**4 == 1296 == multi.shape[1] ** multi.shape[0]
    for cells in (single, multi):
        assert cells[:, 0].sum(axis=0).all(), "the first option of all is everything"
        assert not cells[:, -1].any()


def test_every_rectangle_is_an_option_of_single_size():
    cells = cells_of("single", 3, 2)[0]
    rectangles = {(rows, columns) for rows in range(1, 4) for columns in range(1, 3)}
    found = {(option.any(axis=1).sum(), option.any(axis=0).sum()) for option in cells}
    assert found == rectangles | {(0, 0)}
    assert all(option.sum() in (0, 1, 2, 3, 4, 6) for option in cells)


def test_the_papers_multi_size_example_is_a_profile():
    cells = cells_of("multi", 5, 4)
    # three column blocks for the first 3M rows, one for the first 7M
    options = ((3, 0), (3, 1), (3, 2), (1, 3))
    on = sum(cells[column, option] for option, column in options)
    assert on.sum(axis=1).tolist() == [4, 4, 1, 1, 0]
    assert blocks_of((256, 256, 64, 64, 0), TEN_MILLION, PRICES)[0].num_embeddings == 3_000_000


def test_a_profile_is_worth_its_likeliest_way():
    rng = np.random.default_rng(0)
    shares = np.log(rng.dirichlet(np.ones(3), size=2))
    found = profiles(shares, cells_of("multi", 2, 2), 4)
    # (J=2 column blocks) x (all rows, the first, none)
    heights = {0: (1, 1), 1: (1, 0), 2: (0, 0)}
    expected = {}
    for first, second in product(range(3), repeat=2):
        pairs = zip(heights[first], heights[second], strict=True)
        profile = tuple(4 * (a + b) for a, b in pairs)
        value = shares[0, first] + shares[1, second]
        expected[profile] = max(expected.get(profile, -np.inf), value)
    assert found == pytest.approx(expected)


def test_runs_are_never_empty():
    assert TEN_MILLION == (1_000_000, 3_000_000, 5_000_000, 7_000_000, 10_000_000)
    for rows in range(1, 30):
        ends = row_ends(rows, SHARES)
        assert list(ends) == sorted(set(ends))
        assert ends[0] >= 1
        assert ends[-1] == rows


@pytest.mark.parametrize("join", ["project", "pad", "concatenate"])
@pytest.mark.parametrize("profile", [(16, 8, 8, 4, 4), (16, 4, 0, 0, 0), (0,) * 5, (6, 6, 6, 6, 0)])
def test_blocks_hold_every_id_once(profile, join):
    ends = row_ends(1000, SHARES)
    blocks = blocks_of(profile, ends, replace(SMALL, join=join))
    assert sum(block.num_ids for block in blocks) == 1000
    widths = [block.embedding_dim for block in blocks if not block.hashed_ids]
    assert widths == sorted(set(widths), reverse=True)
    assert all(width in (1, 2) or width % 4 == 0 for width in widths)


def test_rare_ids_share_the_cheapest_row():
    ends = row_ends(1000, SHARES)
    projected, padded = (
        blocks_of((8, 0, 0, 0, 0), ends, replace(SMALL, join=join))[-1]
        for join in ("project", "pad")
    )
    assert (projected.num_embeddings, projected.hashed_ids) == (1, 899)
    assert projected.embedding_dim == 16, "a projection costs more than the row"
    assert padded.embedding_dim == 1


ROWS = {"a": (3, 40), "b": (10, 90), "c": (1, 5)}
WIDTHS = [(16, 16), (16, 4), (8, 8), (4, 4), (4, 0), (0, 0)]


def values(seed):
    rng = np.random.default_rng(seed)
    return {name: dict(zip(WIDTHS, rng.normal(size=6), strict=True)) for name in ROWS}


def training_bytes(chosen):
    return plan_bytes(
        SizingPlan(fields=chosen, out_dim=16, join=SMALL.join), SMALL.optimizer
    ).training_bytes


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [2500, 6000, 12_000, None])
def test_the_best_of_all_that_fit_is_chosen(seed, budget):
    worth = values(seed)
    best, most = None, -np.inf
    for profile in product(WIDTHS, repeat=3):
        own = dict(zip(ROWS, profile, strict=True))
        total = sum(worth[name][p] for name, p in own.items())
        blocks = {name: blocks_of(p, ROWS[name], SMALL) for name, p in own.items()}
        if total > most and (budget is None or training_bytes(blocks) <= budget):
            best, most = blocks, total
    assert best_blocks(worth, ROWS, SMALL, budget) == best


def test_what_never_fits_is_refused_with_what_would():
    with pytest.raises(PlanError, match="the cheapest of what can be chosen") as error:
        best_blocks(values(0), ROWS, SMALL, 10)
    chosen = best_blocks(values(0), ROWS, SMALL, error.value.needed_bytes)
    assert training_bytes(chosen) == error.value.needed_bytes
