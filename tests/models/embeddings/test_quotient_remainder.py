"""Quotients and remainders against a loop over ids in float64, and against worked numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.embeddings.choice import Surroundings
from models.embeddings.quotients import QuotientRemainderChoice, quotient_rows
from models.sizing import Uniform
from models.tables import FieldStats
from service.data.batch import FeatureBuilder
from service.data.examples import Columns, ListColumn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "compressed.json").read_text())["qr"]
ROWS = {"user": 50, "day": 4, "tags": 23}
SINGLE = {"user": [0, 49, 7, 30], "day": [3, 0, 1, 1]}
TAGS = [[22, 0, 7], [], [5], [5, 5]]


def plan_of(rows, dim=8):
    fields = [FieldStats(name=n, num_embeddings=r, num_lookups=1) for n, r in rows.items()]
    return Uniform(dim=dim)(fields)


def columns():
    return Columns(
        labels=np.zeros(4, np.float32),
        dense=np.zeros((4, 0), np.float32),
        ids=np.array(list(SINGLE.values()), dtype=np.int32),
        lists=(
            ListColumn(
                lengths=np.array([len(bag) for bag in TAGS], dtype=np.int32),
                values=np.array([i for bag in TAGS for i in bag], dtype=np.int32),
            ),
        ),
    )


def of_id(weights, field, number, collisions, combine):
    """The vector of an id by the paper's words, in float64."""
    if field in weights:
        return weights[field][number]
    first = weights[f"{field}~quotient"][number // collisions]
    second = weights[f"{field}~remainder"][number % collisions]
    if combine == "concat":
        return np.concatenate([first, second])
    return first * second if combine == "mult" else first + second


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("combine", ["mult", "add", "concat"])
def test_vectors_are_those_of_a_loop_over_ids(combine, pooling):
    whole = ("tags",) if combine == "mult" else ()
    choice = QuotientRemainderChoice(collisions=3, combine=combine, whole_fields=whole)
    plan = plan_of(ROWS)
    embeddings = choice.build(Surroundings(plan=plan, pooling={"tags": pooling}))
    weights = {
        name: bag.weight.detach().double().numpy()
        for name, bag in embeddings.tables.embedding_bags.items()
    }
    features = FeatureBuilder(choice.layout(plan), ["tags"])(columns())
    bags = {name: [[i] for i in ids] for name, ids in SINGLE.items()} | {"tags": TAGS}
    expected = [
        np.concatenate(
            [
                sum((of_id(weights, f, i, 3, combine) for i in bags[f][example]), np.zeros(8))
                / (max(1, len(bags[f][example])) if f == "tags" and pooling == "mean" else 1)
                for f in ROWS
            ]
        )
        for example in range(4)
    ]
    torch.testing.assert_close(
        embeddings(features).side_by_side.double(),
        torch.tensor(np.array(expected)),
        atol=1e-6,
        rtol=1e-6,
    )


def test_tables_and_rows_of_criteos_largest_column_are_those_worked_out():
    n, last = 10_131_227, 10_131_226
    choice = QuotientRemainderChoice(collisions=4)
    layout = choice.layout(plan_of({"C3": n}, dim=16))
    quotients, remainders = layout.tables()
    assert [quotients.num_embeddings, remainders.num_embeddings] == GOLDEN["n=10131227,c=4"]
    params = sum(t.num_embeddings * t.embedding_dim for t in layout.tables())
    assert params / (n * 16) == pytest.approx(GOLDEN["param_ratio_d16"], rel=1e-12)
    ids = np.array([[last]], dtype=np.int32)
    one = Columns(labels=np.zeros(1, np.float32), dense=np.zeros((1, 0)), ids=ids, lists=())
    assert FeatureBuilder(layout)(one).values().tolist() == GOLDEN["i=10131226,c=4"]


def test_rows_of_large_tables_are_exact():
    n = 2_147_483_647
    ids = np.array([[n - 1, n - 2, 16_777_217, 33_554_435]], dtype=np.int32)
    layout = QuotientRemainderChoice(collisions=7).layout(plan_of({"C3": n}, dim=16))
    columns = Columns(labels=np.zeros(4, np.float32), dense=np.zeros((4, 0)), ids=ids, lists=())
    rows = FeatureBuilder(layout)(columns).values().tolist()
    assert rows == [i // 7 for i in ids[0].tolist()] + [i % 7 for i in ids[0].tolist()]


@pytest.mark.parametrize("num_ids", [1, 2, 3, 5, 6, 100, 9_999])
@pytest.mark.parametrize("collisions", [1, 2, 3, 50, 10_000])
def test_no_two_ids_share_both_rows_and_tables_get_smaller_or_stay(num_ids, collisions):
    rows = quotient_rows(num_ids, collisions)
    if rows is not None:
        quotients, remainders = rows
        assert quotients + remainders < num_ids
        ids = np.arange(num_ids)
        pairs = set(zip(ids // remainders, ids % remainders, strict=True))
        assert len(pairs) == num_ids
        assert max(ids // remainders) < quotients


def test_products_of_lists_are_refused_by_name():
    choice = QuotientRemainderChoice()
    with pytest.raises(ValueError, match=r"\['tags'\] are lists.*name them in whole_fields"):
        choice.build(Surroundings(plan=plan_of(ROWS), pooling={"tags": "sum"}))


@pytest.mark.parametrize(("dim", "combine"), [(2, "mult"), (4, "concat"), (12, "concat")])
def test_widths_that_kernels_do_not_take_are_refused(dim, combine):
    with pytest.raises(ValueError, match="expected a multiple of"):
        QuotientRemainderChoice(combine=combine).layout(plan_of(ROWS, dim=dim))


def test_whole_rows_leave_small_tables_alone():
    layout = QuotientRemainderChoice(whole_rows=23).layout(plan_of(ROWS))
    assert [t.name for t in layout.tables()] == [
        "user~quotient",
        "user~remainder",
        "day",
        "tags",
    ]
