"""`MixedEmbeddings` against a loop over ids in float64, and against the paper's worked example."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.mixed import MixedEmbeddings
from models.embeddings.packed import pack, unpack
from models.embeddings.unifier import WidthUnifier
from models.sizing import plan_bytes
from models.tables import Block, Join, SizingPlan, Table
from service.data.batch import FeatureBuilder
from service.data.examples import Columns, ListColumn
from tests.oracles import mixed_vectors

GOLDEN = Path(__file__).parents[2] / "golden" / "mde_forward.json"
NO_FEATURES = KeyedJaggedTensor.empty()
"""What is neither packed nor a mean over blocks needs no features behind the tables."""


def stacked(embeddings, features):
    """The fields as (B, F, D)."""
    fields = embeddings(features).side_by_side
    return fields.unflatten(1, (-1, embeddings.out_dim))


def plan_of(out_dim, **fields):
    """Blocks are (rows, width) or (rows, width, hashed ids)."""
    return SizingPlan(
        fields={
            name: tuple(
                Block(num_embeddings=n, embedding_dim=d, asked_dim=d, hashed_ids=sum(hashed))
                for n, d, *hashed in blocks
            )
            for name, blocks in fields.items()
        },
        out_dim=out_dim,
    )


def columns_of(plan, ids, singles=()):
    """Columns of ids; fields are lists, with empty and long bags, or have one id an example."""
    lists = tuple(
        ListColumn(
            lengths=np.array([len(bag) for bag in ids[name]], dtype=np.int32),
            values=np.array([row for bag in ids[name] for row in bag], dtype=np.int32),
        )
        for name in plan.fields
        if name not in singles
    )
    num_examples = len(next(iter(ids.values())))
    return Columns(
        labels=np.zeros(num_examples, np.float32),
        dense=np.zeros((num_examples, 0), np.float32),
        ids=np.array([[bag[0] for bag in ids[name]] for name in plan.fields if name in singles])
        .reshape(-1, num_examples)
        .astype(np.int32),
        lists=lists,
    )


def features_of(plan, ids, singles=()):
    lists = [name for name in plan.fields if name not in singles]
    return FeatureBuilder(plan, lists)(columns_of(plan, ids, singles))


def sums(plan):
    return dict.fromkeys(plan.fields, "sum")


def weights_of(embeddings, plan):
    """Rows of all tables as if none were packed."""
    bags = embeddings.tables.embedding_bags
    return {
        table.name: unpack(bags[table.name].weight, table).detach().double().numpy()
        for table in plan.tables()
    }


def projections_of(embeddings):
    unify = embeddings.unify
    return {
        name: matrix.detach().double().numpy()
        for (_, names), stack in zip(unify.narrow_tables, unify.projections, strict=True)
        for name, matrix in zip(names, stack, strict=True)
    }


@st.composite
def cases(draw):
    """Plans of all widths, blocks and hashed ids; ids of lists and of single-valued fields."""
    out_dim = draw(st.sampled_from([1, 2, 4, 8, 12]))
    widths = st.sampled_from([w for w in (1, 2, 4, 8, 12) if w <= out_dim])
    block = st.tuples(st.integers(1, 9), widths, st.sampled_from([0, 0, 5]))
    blocks = st.lists(block, min_size=1, max_size=3)
    fields = {f"f{i}": draw(blocks) for i in range(draw(st.integers(1, 4)))}
    singles = draw(st.sets(st.sampled_from(sorted(fields))))
    num_examples = draw(st.integers(1, 5))
    ids = {}
    for name, cut in fields.items():
        row = st.integers(0, sum(n + hashed for n, _, hashed in cut) - 1)
        bag = st.lists(row, min_size=name in singles, max_size=1 if name in singles else 4)
        ids[name] = [draw(bag) for _ in range(num_examples)]
    pooling = {name: draw(st.sampled_from(["sum", "mean"])) for name in set(fields) - singles}
    return plan_of(out_dim, **fields), ids, singles, pooling


@settings(max_examples=150)
@given(cases(), st.sampled_from(get_args(Join)))
def test_any_plan_equals_algorithm_1_of_the_paper_in_float64(case, join):
    plan, ids, singles, pooling = case
    plan = replace(plan, join=join)
    embeddings = MixedEmbeddings(plan, pooling=pooling, projection_init="xavier")
    means = {name for name, pool in pooling.items() if pool == "mean"}
    expected = mixed_vectors(
        plan, weights_of(embeddings, plan), projections_of(embeddings), ids, means
    )
    found = embeddings(features_of(plan, ids, singles)).side_by_side.detach().double().numpy()
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-5)


@settings(max_examples=100)
@given(cases(), st.sampled_from(["project", "pad"]), st.booleans())
def test_what_is_read_from_narrow_columns_is_what_is_read_from_wide_vectors(case, join, is_bf16):
    plan, ids, singles, pooling = case
    plan = replace(plan, join=join)
    embeddings = MixedEmbeddings(plan, pooling=pooling, projection_init="xavier")
    vectors = embeddings(features_of(plan, ids, singles))
    wide, more = vectors.side_by_side, torch.randn(len(ids["f0"]), 2)
    weight = torch.randn(3, wide.shape[1] + 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        folded = vectors.folded(weight)
        total, squares = vectors.sum_and_squares(plan.out_dim)
    read = torch.cat([vectors.columns, more], dim=1) @ folded.t()
    assert torch.allclose(read, torch.cat([wide, more], dim=1) @ weight.t(), atol=1e-4)
    assert torch.allclose(total, wide.view(-1, len(plan.fields), plan.out_dim).sum(1), atol=1e-4)
    assert torch.allclose(squares, wide.square().sum(1), atol=1e-4)


def test_fields_stay_as_narrow_as_their_tables_and_blocks_that_gain_nothing_are_widened():
    plan = plan_of(8, a=[(9, 1)], b=[(3, 8)], c=[(5, 2), (4, 4)], d=[(4, 4), (3, 8)])
    ids = {name: [[1]] for name in plan.fields}
    vectors = MixedEmbeddings(plan)(features_of(plan, ids, set(plan.fields)))
    assert vectors.columns.shape == (1, 1 + 6 + 8 + 8)
    assert vectors.side_by_side.shape == (1, 4 * 8)


def test_forward_equals_the_worked_example_of_the_paper():
    golden = json.loads(GOLDEN.read_text())
    plan = plan_of(4, f=[(2, 4), (3, 2)])
    embeddings = MixedEmbeddings(plan, pooling=sums(plan))
    bags = embeddings.tables.embedding_bags
    with torch.no_grad():
        for table, rows in zip(plan.tables(), (golden["E0"], golden["E1"]), strict=True):
            bags[table.name].weight.copy_(pack(torch.tensor(rows), table))
        embeddings.unify.projections[0].copy_(torch.tensor([golden["P1"]]))
    found = stacked(embeddings, features_of(plan, {"f": [[0], [1], [2], [3], [4]]}))
    assert found[:, 0].tolist() == [golden["out"][str(row)] for row in range(5)]


def test_uniform_plans_have_no_projection_and_copy_nothing():
    plan = plan_of(8, a=[(5, 8)], b=[(3, 8)])
    unify = WidthUnifier(list(plan.tables()), (8, 8))
    pooled = KeyedTensor(["a", "b"], [8, 8], torch.randn(6, 16))
    found = unify(pooled, NO_FEATURES)
    assert not list(unify.parameters())
    assert found.columns.data_ptr() == pooled.values().data_ptr()


@pytest.mark.parametrize("widths", [(8, 8, 8), (4, 8, 4)])
def test_order_of_the_pooled_keys_does_not_matter(widths):
    names = ["a", "b", "c"]
    tables = [
        Table(name=n, field=n, num_embeddings=2, embedding_dim=w)
        for n, w in zip(names, widths, strict=True)
    ]
    unify = WidthUnifier(tables, (8, 8, 8))
    vectors = {n: torch.randn(5, w) for n, w in zip(names, widths, strict=True)}
    in_order = KeyedTensor.from_tensor_list(names, [vectors[n] for n in names])
    turned = KeyedTensor.from_tensor_list(names[::-1], [vectors[n] for n in names[::-1]])
    assert torch.equal(
        unify(in_order, NO_FEATURES).side_by_side, unify(turned, NO_FEATURES).side_by_side
    )


def test_identity_projections_keep_the_leading_axes():
    plan = plan_of(8, wide=[(5, 8)], narrow=[(3, 4)])
    embeddings = MixedEmbeddings(plan)
    found = stacked(embeddings, features_of(plan, {"wide": [[0]], "narrow": [[2]]}))
    row = embeddings.tables.embedding_bags["narrow"].weight[2]
    assert torch.equal(found[0, 1], torch.cat([row, torch.zeros(4)]))


def test_bytes_are_those_of_tables_and_projections():
    plan = plan_of(8, wide=[(5, 8)], narrow=[(3, 4)])
    assert MixedEmbeddings(plan).num_bytes() == 4 * (5 * 8 + 3 * 4 + 4 * 8)


def test_fields_that_are_joined_side_by_side_are_as_wide_as_their_tables():
    plan = replace(plan_of(8, a=[(9, 1)], b=[(3, 8)], c=[(5, 2), (4, 4)]), join="concatenate")
    embeddings = MixedEmbeddings(plan)
    ids = {"a": [[6]], "b": [[1]], "c": [[3]]}
    found = embeddings(features_of(plan, ids, {"a", "b", "c"})).side_by_side
    rows = weights_of(embeddings, plan)
    narrow = rows["c/0"][3] @ projections_of(embeddings)["c/0"]
    assert embeddings.field_dims == (1, 8, 4)
    assert np.allclose(found[0].detach(), [*rows["a"][6], *rows["b"][1], *narrow])


def test_packed_tables_allocate_four_floats_a_stored_row_and_nothing_else():
    plan = plan_of(2, ones=[(5, 1)], twos=[(7, 2)])
    assert MixedEmbeddings(plan).num_bytes() == 4 * (2 * 4 + 4 * 4 + 1 * 2)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_unpacking_undoes_packing_and_what_is_over_is_zero(width):
    table = Table(name="t", field="t", num_embeddings=7, embedding_dim=width)
    rows = torch.rand(7, width) + 1
    weight = pack(rows, table)
    assert weight.shape == (table.stored.num_embeddings, 4)
    assert torch.equal(unpack(weight, table), rows)
    assert weight.sum() == pytest.approx(float(rows.sum()))


def test_rows_beside_the_one_that_is_read_get_a_gradient_of_exactly_zero():
    plan = plan_of(2, f=[(6, 1)], g=[(6, 2)])
    embeddings = MixedEmbeddings(plan, projection_init="xavier")
    vectors = embeddings(features_of(plan, {"f": [[5]], "g": [[3]]}, {"f", "g"}))
    vectors.side_by_side.sum().backward()
    for table, row in zip(plan.tables(), (5, 3), strict=True):
        bag = embeddings.tables.embedding_bags[table.name]
        read = unpack(bag.weight.grad, table).abs().sum(1).nonzero().flatten().tolist()
        assert read == [row]


def test_a_table_wider_than_the_model_is_refused():
    with pytest.raises(ValueError, match="embedding_dim=8 exceeds out_dim=4; raise out_dim to 8"):
        plan_of(4, f=[(2, 8)])


def test_padding_puts_zeros_behind_the_narrow_rows_of_any_block():
    plan = replace(plan_of(8, a=[(9, 1)], b=[(3, 8)], c=[(5, 2), (4, 4)]), join="pad")
    embeddings = MixedEmbeddings(plan)
    ids = {"a": [[8], [3]], "b": [[0], [2]], "c": [[4], [7]]}
    found = stacked(embeddings, features_of(plan, ids, {"a", "b", "c"})).detach()
    assert not list(embeddings.unify.parameters())
    for table, example, position, id_ in (("a", 0, 0, 8), ("c/0", 0, 2, 4), ("c/1", 1, 2, 2)):
        known = next(t for t in plan.tables() if t.name == table)
        row = unpack(embeddings.tables.embedding_bags[table].weight.detach(), known)[id_]
        expected = torch.cat([row, torch.zeros(8 - len(row))])
        assert torch.equal(found[example, position], expected)
    assert plan_bytes(plan, "sgd").training_bytes == embeddings.num_bytes()
