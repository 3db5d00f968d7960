import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.data.ingest.splits import OrderSplit, RandomSplit, TimeSplit
from service.data.readers.base import Block, Rows


def rows(index, time=None) -> Rows:
    block = Block(
        path=None, first_line=1, first_index=0, num_lines=len(index), bytes_read=0, payload=b""
    )
    label = np.zeros(len(index), dtype=np.float32)
    return Rows(block=block, index=np.array(index), label=label, dense={}, fields={}, time=time)


def shares(split) -> list[float]:
    return (np.bincount(split, minlength=3) / len(split)).tolist()


def test_random_shares_come_close_to_the_fractions():
    split = RandomSplit(fractions=(0.6, 0.3, 0.1), seed=5)(rows(np.arange(100_000)))
    assert shares(split) == pytest.approx([0.6, 0.3, 0.1], abs=0.01)


def test_a_row_keeps_its_split_whatever_block_it_comes_in():
    rule = RandomSplit(fractions=(0.8, 0.1, 0.1), seed=0)
    together = rule(rows(np.arange(1000)))
    assert rule(rows(np.arange(300, 700))).tolist() == together[300:700].tolist()


def test_another_seed_is_another_split():
    first, second = (
        RandomSplit(fractions=(0.5, 0.25, 0.25), seed=seed)(rows(np.arange(1000)))
        for seed in (0, 1)
    )
    assert (first != second).sum() > 300


def test_order_cuts_at_the_shares_of_the_lines():
    split = OrderSplit(fractions=(0.7, 0.2, 0.1), num_lines=10)(rows(np.arange(10)))
    assert split.tolist() == [0] * 7 + [1] * 2 + [2]


def test_a_split_without_share_gets_no_rows():
    split = RandomSplit(fractions=(0.9, 0.0, 0.1), seed=0)(rows(np.arange(1000)))
    assert 1 not in split


@given(st.lists(st.integers(0, 30), min_size=20, max_size=300))
def test_times_never_fall_from_train_to_test_and_ties_stay_together(values):
    times, counts = np.unique(np.array(values), return_counts=True)
    try:
        rule = TimeSplit.at_quantiles(times, counts, (0.8, 0.1, 0.1))
    except ValueError:
        before = np.append(0, np.cumsum(counts)) / counts.sum()
        cuts = {int(np.abs(before - bound).argmin()) for bound in (0.8, 0.9)} | {0, len(times)}
        assert len(cuts) < 4
        return
    split = rule(rows(np.arange(len(values)), np.array(values)))
    latest = [max(np.array(values)[split == number]) for number in (0, 1)]
    earliest = [min(np.array(values)[split == number]) for number in (1, 2)]
    assert all(low < high for low, high in zip(latest, earliest, strict=True))


def test_a_single_time_cannot_be_split():
    with pytest.raises(ValueError, match=r"100% of the rows share time 14102100.*--split random"):
        TimeSplit.at_quantiles(np.array([14102100]), np.array([10]), (0.8, 0.1, 0.1))
