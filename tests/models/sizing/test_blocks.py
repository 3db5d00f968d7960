"""Several widths inside one field."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sizing import (
    PopularityRule,
    Spectral,
    Uniform,
    best_fit,
    equipartition,
    plan_bytes,
    size_in_blocks,
)
from models.sizing.popularity import popularity_dims
from models.sizing.rows import cut_tail, tail_rows
from models.tables import Block
from tests.models.sizing.examples import GOLDEN, field

SMALL = GOLDEN["mde_equipartition_small"]
ZIPF = GOLDEN["mde_equipartition_zipf"]
COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=40).map(
    lambda counts: sorted(counts, reverse=True)
)


@pytest.mark.parametrize(("num_blocks", "offsets"), SMALL["offsets"].items())
def test_the_small_golden_is_cut_as_given(num_blocks: str, offsets: list[int]) -> None:
    assert equipartition(SMALL["freq"], int(num_blocks)) == offsets


@pytest.mark.parametrize(("side", "rows"), [("users1000", 1000), ("items200", 200)])
def test_zipf_counts_are_cut_into_the_golden_blocks(side: str, rows: int) -> None:
    frequency = 1 / np.arange(1, rows + 1)
    offsets = equipartition(frequency, 8)
    mass = np.add.reduceat(frequency, offsets[:-1]) / frequency.sum()
    assert offsets == ZIPF[side]["offsets"]
    assert mass == pytest.approx(ZIPF[side]["mass"], rel=1e-9)


@pytest.mark.parametrize("alpha", ["0.0", "0.3", "0.6", "1.0"])
@pytest.mark.parametrize("side", ["users1000", "items200"])
def test_blocks_get_the_golden_widths_by_popularity_per_row(side: str, alpha: str) -> None:
    golden = ZIPF[side]
    popularity = [m / n for m, n in zip(golden["mass"], golden["rows"], strict=True)]
    asked = popularity_dims(popularity, float(alpha), 32)
    assert [max(1, int(dim + 0.5)) for dim in asked] == golden[f"dims_alpha={alpha},d0=32"]


@given(counts=COUNTS, data=st.data())
def test_blocks_cover_all_rows_and_none_is_empty(counts: list[int], data: st.DataObject) -> None:
    num_blocks = data.draw(st.integers(1, len(counts)))
    offsets = equipartition(counts, num_blocks)
    assert (offsets[0], offsets[-1], len(offsets)) == (0, len(counts), num_blocks + 1)
    assert offsets == sorted(set(offsets))


@given(counts=COUNTS, data=st.data())
def test_a_block_ends_as_soon_as_its_share_is_reached(
    counts: list[int], data: st.DataObject
) -> None:
    num_blocks = data.draw(st.integers(2, 3))
    offsets = equipartition([*counts, 0, 0, 0], num_blocks)
    for index, end in enumerate(offsets[1:-1], start=1):
        share = index * sum(counts)
        reached = sum(counts[:end]) * num_blocks >= share
        needed = sum(counts[: end - 1]) * num_blocks < share
        assert reached and (needed or end == offsets[index - 1] + 1)


def test_counts_without_a_sign_are_cut_like_others() -> None:
    counts = [9, 5, 3, 1, 1, 0]
    assert equipartition(np.array(counts, dtype=np.uint32), 3) == equipartition(counts, 3)


def rows_of(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    """By id: which block, and which row of it."""
    return [
        (index, position % block.num_embeddings)
        for index, block in enumerate(blocks)
        for position in range(block.num_ids)
    ]


@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from([0, 0, 5])), min_size=1, max_size=3
    ),
    kept=st.integers(0, 45),
    hash_ratio=st.sampled_from([0.0, 0.4]),
)
def test_a_tail_leaves_the_rows_of_all_ids_before_it(
    sizes: list[tuple[int, int]], kept: int, hash_ratio: float
) -> None:
    blocks = [Block(num_embeddings=n, embedding_dim=4, asked_dim=4, hashed_ids=h) for n, h in sizes]
    before, after = rows_of(blocks), rows_of(cut_tail(blocks, kept, hash_ratio))
    assert len(after) == len(before)
    assert after[:kept] == before[:kept]
    if kept < len(before) - 1:
        shared = tail_rows(len(before) - kept, hash_ratio)
        assert len(set(after[kept:])) == shared
        assert {*after[:kept]}.isdisjoint(after[kept:])


def test_frequent_rows_get_more_width_than_rare_ones_of_the_same_field() -> None:
    counts = np.array([900, 50, 40, 5, 3, 1, 1, 0])
    fields = [field("user", 8, 1000), field("day", 7, 1000)]
    plan = size_in_blocks(PopularityRule(alpha=0.5), fields, {"user": counts}, 3)
    dims = [block.embedding_dim for block in plan.fields["user"]]
    assert [table.name for table in plan.tables()] == ["user/0", "user/1", "user/2", "day"]
    assert dims == sorted(dims, reverse=True) and dims[0] > dims[-1]
    assert sum(block.num_embeddings for block in plan.fields["user"]) == 8


def test_blocks_are_sized_under_a_budget_too() -> None:
    counts = np.arange(1000, 0, -1)
    scheme = PopularityRule()
    plan = size_in_blocks(scheme, [field("user", 1000)], {"user": counts}, 4)
    assert plan_bytes(best_fit(plan, 40_000, grid=scheme.grid).plan).training_bytes <= 40_000


def test_a_field_of_one_row_is_measured_and_sized_under_its_own_name() -> None:
    plan = size_in_blocks(Spectral(spectra={"a": [0.1, 0.0]}), [field("a", 1)], {"a": [5]}, 4)
    assert [table.name for table in plan.tables()] == ["a"]


def test_a_field_with_fewer_rows_than_blocks_has_one_row_a_block() -> None:
    plan = size_in_blocks(Uniform(), [field("sex", 2)], {"sex": [9, 1]}, 8)
    assert [block.num_embeddings for block in plan.fields["sex"]] == [1, 1]


@pytest.mark.parametrize(
    ("counts", "num_blocks", "message"),
    [
        ([3, 2, 1], 4, "num_blocks=4, expected 1 to 3"),
        ([3, 2, 1], 0, "num_blocks=0, expected 1 to 3"),
        ([3, 1, 2], 2, "row 2 is read more often than row 1; sort"),
    ],
)
def test_counts_that_cannot_be_cut_are_refused(
    counts: list[int], num_blocks: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        equipartition(counts, num_blocks)


def test_counts_of_another_dataset_are_refused() -> None:
    with pytest.raises(ValueError, match="field 'user': 2 counts for 3 rows"):
        size_in_blocks(Uniform(), [field("user", 3)], {"user": [2, 1]}, 2)
