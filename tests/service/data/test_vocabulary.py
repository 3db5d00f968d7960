import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.data.ingest import vocabulary as module
from service.data.ingest.vocabulary import ValueIndex, Vocabulary, frequency_curve


def ranked(counts: dict[str, int], *, missing: int = 0, min_count: int = 1) -> Vocabulary:
    table = pa.table({"value": list(counts), "count": pa.array(counts.values(), pa.int64())})
    return Vocabulary.from_counts([table], num_missing=missing, min_count=min_count)


def test_ids_fall_with_the_count_and_ties_go_by_value_then_missing_then_unknown():
    vocabulary = ranked({"b": 4, "a": 4, "c": 9, "r": 3, "s": 1}, missing=4, min_count=4)
    assert vocabulary.values.to_pylist() == ["c", "a", "b", None, None]
    assert vocabulary.counts.tolist() == [9, 4, 4, 4, 4]
    assert (vocabulary.missing_id, vocabulary.unknown_id) == (3, 4)
    assert vocabulary.num_distinct == 5


def test_unknown_values_rank_before_missing_ones_where_there_are_more():
    vocabulary = ranked({"a": 5, "b": 1, "c": 1}, missing=1, min_count=2)
    assert (vocabulary.unknown_id, vocabulary.missing_id) == (1, 2)
    assert vocabulary.counts.tolist() == [5, 2, 1]


def test_a_field_without_any_value_still_has_both_special_ids():
    vocabulary = ranked({}, missing=7)
    assert vocabulary.values.to_pylist() == [None, None]
    assert ValueIndex(vocabulary).ids_of(pa.array(["x"])).tolist() == [1, 0]


@pytest.mark.parametrize("weak", [False, True])
@given(known=st.sets(st.text(max_size=20), max_size=40), asked=st.sets(st.text(max_size=20)))
def test_lookups_match_a_dict_even_where_all_keys_clash(weak, known, asked):
    known, asked = known - {""}, asked - {""}
    with pytest.MonkeyPatch.context() as patch:
        if weak:
            patch.setattr(module, "string_keys", lambda s: np.zeros(len(s), dtype=np.uint64))
        vocabulary = ranked(dict.fromkeys(known, 3), missing=1)
        ids = {value: i for i, value in enumerate(vocabulary.values.to_pylist()) if value}
        everything = [*asked, *known]
        looked_up = ValueIndex(vocabulary).ids_of(pa.array(everything, pa.string()))
    assert looked_up.tolist() == [
        *(ids.get(value, vocabulary.unknown_id) for value in everything),
        vocabulary.missing_id,
    ]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=500))
def test_the_curve_is_the_cumulative_count_at_growing_ranks(counts):
    counts = sorted(counts, reverse=True)
    curve = frequency_curve(np.array(counts))
    ranks = [rank for rank, _ in curve]
    assert ranks == sorted(set(ranks)) and ranks[0] == 1 and ranks[-1] == len(counts)
    assert all(below == sum(counts[:rank]) for rank, below in curve)


def test_the_curve_of_ten_million_ids_stays_short():
    assert len(frequency_curve(np.ones(10_000_000, dtype=np.int64))) < 150
