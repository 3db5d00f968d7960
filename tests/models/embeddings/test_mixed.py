"""`MixedEmbeddings` against a loop over ids in float64, and against the paper's worked example."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrec.sparse.jagged_tensor import KeyedTensor

from models.embeddings.mixed import MixedEmbeddings, WidthUnifier
from models.tables import Block, SizingPlan, Table
from service.data.batch import Columns, FeatureBuilder, ListColumn
from tests.oracles import mixed_vectors

GOLDEN = Path(__file__).parents[2] / "golden" / "mde_forward.json"


def stacked(embeddings, features):
    """The fields as (B, F, D)."""
    fields = embeddings(features)
    return fields.unflatten(1, (-1, embeddings.out_dim))


def plan_of(out_dim, **fields):
    return SizingPlan(
        fields={
            name: tuple(Block(num_embeddings=n, embedding_dim=d, asked_dim=d) for n, d in blocks)
            for name, blocks in fields.items()
        },
        out_dim=out_dim,
    )


def features_of(plan, ids):
    """All fields as lists, so that empty and long bags are covered."""
    lists = tuple(
        ListColumn(
            lengths=np.array([len(bag) for bag in ids[name]], dtype=np.int32),
            values=np.array([row for bag in ids[name] for row in bag], dtype=np.int32),
        )
        for name in plan.fields
    )
    num_examples = len(lists[0].lengths)
    columns = Columns(
        labels=np.zeros(num_examples, np.float32),
        dense=np.zeros((num_examples, 0), np.float32),
        ids=np.zeros((0, num_examples), np.int32),
        lists=lists,
    )
    return FeatureBuilder(plan, list(plan.fields))(columns)


def weights_of(embeddings):
    bags = embeddings.tables.embedding_bags
    return {name: bag.weight.detach().double().numpy() for name, bag in bags.items()}


def projections_of(embeddings):
    unify = embeddings.unify
    return {
        name: matrix.detach().double().numpy()
        for (_, names), stack in zip(unify.narrow_tables, unify.projections, strict=True)
        for name, matrix in zip(names, stack, strict=True)
    }


@st.composite
def plans_and_ids(draw):
    out_dim = draw(st.sampled_from([4, 8, 12]))
    widths = st.sampled_from([w for w in (4, 8, 12) if w <= out_dim])
    blocks = st.lists(st.tuples(st.integers(1, 5), widths), min_size=1, max_size=3)
    fields = {f"f{i}": draw(blocks) for i in range(draw(st.integers(1, 4)))}
    num_examples = draw(st.integers(1, 5))
    ids = {
        name: [
            draw(st.lists(st.integers(0, sum(n for n, _ in blocks) - 1), max_size=4))
            for _ in range(num_examples)
        ]
        for name, blocks in fields.items()
    }
    return plan_of(out_dim, **fields), ids


@settings(deadline=None, max_examples=60)
@given(plans_and_ids())
def test_any_plan_equals_algorithm_1_of_the_paper_in_float64(case):
    plan, ids = case
    embeddings = MixedEmbeddings(plan, projection_init="xavier")
    expected = mixed_vectors(plan, weights_of(embeddings), projections_of(embeddings), ids)
    found = stacked(embeddings, features_of(plan, ids)).detach().double().numpy()
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-5)


def test_forward_equals_the_worked_example_of_the_paper():
    golden = json.loads(GOLDEN.read_text())
    plan = plan_of(4, f=[(2, 4), (3, 2)])
    embeddings = MixedEmbeddings(plan)
    with torch.no_grad():
        embeddings.tables.embedding_bags["f/0"].weight.copy_(torch.tensor(golden["E0"]))
        embeddings.tables.embedding_bags["f/1"].weight.copy_(torch.tensor(golden["E1"]))
        embeddings.unify.projections[0].copy_(torch.tensor([golden["P1"]]))
    found = stacked(embeddings, features_of(plan, {"f": [[0], [1], [2], [3], [4]]}))
    assert found[:, 0].tolist() == [golden["out"][str(row)] for row in range(5)]


def test_uniform_plans_have_no_projection_and_copy_nothing():
    plan = plan_of(8, a=[(5, 8)], b=[(3, 8)])
    unify = WidthUnifier(list(plan.tables()), (8, 8))
    pooled = KeyedTensor(["a", "b"], [8, 8], torch.randn(6, 16))
    found = unify(pooled)
    assert not list(unify.parameters())
    assert found.data_ptr() == pooled.values().data_ptr()


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
    assert torch.equal(unify(in_order), unify(turned))


def test_identity_projections_keep_the_leading_axes():
    plan = plan_of(8, wide=[(5, 8)], narrow=[(3, 4)])
    embeddings = MixedEmbeddings(plan)
    found = stacked(embeddings, features_of(plan, {"wide": [[0]], "narrow": [[2]]}))
    row = embeddings.tables.embedding_bags["narrow"].weight[2]
    assert torch.equal(found[0, 1], torch.cat([row, torch.zeros(4)]))


def test_bytes_are_those_of_tables_and_projections():
    plan = plan_of(8, wide=[(5, 8)], narrow=[(3, 4)])
    assert MixedEmbeddings(plan).num_bytes() == 4 * (5 * 8 + 3 * 4 + 4 * 8)


def test_mean_pooling_of_several_blocks_is_refused():
    plan = plan_of(8, f=[(2, 8), (3, 4)])
    with pytest.raises(ValueError, match="field 'f': pooling='mean' with 2 blocks"):
        MixedEmbeddings(plan, pooling={"f": "mean"})


def test_a_table_wider_than_the_model_is_refused():
    with pytest.raises(ValueError, match="embedding_dim=8 exceeds out_dim=4; raise out_dim to 8"):
        plan_of(4, f=[(2, 8)])
