"""`FeatureBuilder` against a dictionary that says where every id is stored."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tables import Block, SizingPlan
from service.data.batch import FeatureBuilder
from service.data.examples import Columns, ListColumn


def places(plan):
    """By field and id: table, stored row and slot, found by counting ids up one at a time."""
    found = {}
    for field, blocks in plan.fields.items():
        number = 0
        for index, block in enumerate(blocks):
            name = field if len(blocks) == 1 else f"{field}/{index}"
            per_row = {1: 4, 2: 2}.get(block.embedding_dim, 1)
            for position in range(block.num_embeddings + block.hashed_ids):
                row = position % block.num_embeddings
                found[field, number] = name, row // per_row, row % per_row, per_row
                number += 1
    return found


def expected_bags(plan, ids, lists):
    """By key: the bag of every example; slots that tell nothing are 0."""
    found, where, num_examples = {}, places(plan), len(next(iter(ids.values())))
    for (field, _), (name, _, _, per_row) in where.items():
        keys = [name]
        if per_row > 1 and field in lists:
            keys = [f"{name}#{slot}" for slot in range(per_row)]
        elif per_row > 1:
            found[f"{name}#slot"] = [[0] for _ in range(num_examples)]
        found.update((key, [[] for _ in range(num_examples)]) for key in keys)
    for field, bags in ids.items():
        for example, bag in enumerate(bags):
            for number in bag:
                name, row, slot, per_row = where[field, number]
                is_split = per_row > 1 and field in lists
                found[f"{name}#{slot}" if is_split else name][example].append(row)
                if per_row > 1 and not is_split:
                    found[f"{name}#slot"][example] = [slot]
    return found


@st.composite
def cases(draw, most_blocks=3):
    block = st.builds(
        lambda n, d, hashed: Block(
            num_embeddings=n, embedding_dim=d, asked_dim=d, hashed_ids=hashed
        ),
        st.integers(1, 9),
        st.sampled_from([1, 2, 4, 8]),
        st.sampled_from([0, 0, 1, 7]),
    )
    names = [f"f{index}" for index in range(draw(st.integers(1, 4)))]
    fields = {
        name: tuple(draw(st.lists(block, min_size=1, max_size=most_blocks))) for name in names
    }
    lists = draw(st.sets(st.sampled_from(names))) if most_blocks > 1 else set()
    num_examples = draw(st.integers(1, 6))
    ids = {}
    for name, blocks in fields.items():
        number = st.integers(0, sum(block.num_ids for block in blocks) - 1)
        bag = st.lists(number, max_size=5) if name in lists else st.tuples(number)
        ids[name] = [list(draw(bag)) for _ in range(num_examples)]
    return SizingPlan(fields=fields, out_dim=8), ids, lists


def built(plan, ids, lists):
    num_examples = len(next(iter(ids.values())))
    columns = Columns(
        labels=np.zeros(num_examples, np.float32),
        dense=np.zeros((num_examples, 0), np.float32),
        ids=np.array(
            [[bag[0] for bag in ids[n]] for n in plan.fields if n not in lists], np.int32
        ).reshape(-1, num_examples),
        lists=tuple(
            ListColumn(
                lengths=np.array([len(bag) for bag in ids[name]], np.int32),
                values=np.array([number for bag in ids[name] for number in bag], np.int32),
            )
            for name in plan.fields
            if name in lists
        ),
    )
    before = columns.ids.copy()
    features = FeatureBuilder(plan, [n for n in plan.fields if n in lists])(columns)
    assert np.array_equal(columns.ids, before)  # row groups are cached: nobody writes into them
    return features


def check(case):
    plan, ids, lists = case
    features = built(*case)
    found = {
        key: [part.tolist() for part in bags.values().split(bags.lengths().tolist())]
        for key, bags in features.to_dict().items()
    }
    assert found == expected_bags(plan, ids, lists)
    # The unifier reads slots from the end of the values, without names.
    are_slots = [key.endswith("#slot") for key in found]
    assert are_slots == sorted(are_slots)


@settings(max_examples=200)
@given(cases())
def test_ids_are_where_a_dictionary_says(case):
    check(case)


@settings(max_examples=100)
@given(cases(most_blocks=1))
def test_ids_of_whole_single_valued_fields_are_where_a_dictionary_says(case):
    check(case)


def test_plans_without_packing_hashing_lists_and_blocks_copy_no_id():
    plan = SizingPlan(
        fields={
            name: (Block(num_embeddings=9, embedding_dim=4, asked_dim=4),) for name in ("a", "b")
        },
        out_dim=4,
    )
    columns = Columns(
        labels=np.zeros(3, np.float32),
        dense=np.zeros((3, 0), np.float32),
        ids=np.arange(6, dtype=np.int32).reshape(2, 3),
        lists=(),
    )
    features = FeatureBuilder(plan)(columns)
    assert features.values().data_ptr() == columns.ids.ctypes.data
