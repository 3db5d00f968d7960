"""L2 on looked-up vectors: the formula, its weights by frequency, sharded and not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.networks import DotBiasNetwork, MFNetwork
from models.tables import FieldStats
from service.config import OptimizerConfig, TrainConfig
from service.data.batch import Batch
from service.data.dataset import read_dataset_info, write_dataset_info
from service.data.examples import Columns, ListColumn
from service.data.lookup_weights import LookupWeights
from service.distributed import launch
from service.sizing import read_sizing
from service.train.engine import build_task
from service.train.penalty import L2Penalty
from service.train.task import TrainTask
from tests.models.examples import PAIR, embeddings_of, inputs_of
from tests.service.train.plain import train_plainly, train_sharded
from tests.service.train.runs import make_run, sharded

CURVE = ((1, 90), (2, 150), (5, 180), (7, 190))
COUNTS = [90, 60, 10, 10, 10, 5, 5]
"""Lookups of the ids 0 to 6 by `CURVE`."""


def weight_of(rank: int, power: float) -> float:
    lookups = sum(count * count**-power for count in COUNTS)
    return COUNTS[rank] ** -power * sum(COUNTS) / lookups


def test_the_penalty_is_the_sum_of_its_formula():
    torch.manual_seed(0)
    vectors, weights, by_lookup = torch.randn(4, 5), torch.tensor([0.5, 1, 2, 0]), torch.rand(4, 2)
    penalty = L2Penalty(["a", "b"], [2, 3], l2=0.3, bias=0.7, by_field={"b": 10})
    expected = 0.0
    for b in range(4):
        a = 0.7 * vectors[b, 0] ** 2 + 0.3 * vectors[b, 1] ** 2
        other = 7 * vectors[b, 2] ** 2 + 3 * vectors[b, 3] ** 2 + 3 * vectors[b, 4] ** 2
        expected += weights[b] * (by_lookup[b, 0] * a + by_lookup[b, 1] * other)
    assert penalty(vectors, weights, by_lookup).item() == pytest.approx(float(expected))


@pytest.mark.parametrize(("bias", "expected"), [(None, [2, 5, 2 + 3 * 2**0.5]), (9.0, [9, 2, 5])])
def test_a_growing_penalty_rises_with_the_root_of_the_position(bias, expected):
    penalty = L2Penalty(["a"], [3], l2=2.0, bias=bias, growth=1.5)
    assert penalty.factors[:, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("small_rows", [7, 6])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_lookups_weigh_by_their_frequency_and_one_on_average(power, small_rows, monkeypatch):
    monkeypatch.setattr("service.data.lookup_weights.SMALL_ROWS", small_rows)
    stats = FieldStats(name="f", num_embeddings=7, num_lookups=190, frequency_curve=CURVE)
    weigh = LookupWeights([stats, replace(stats, name="l")], ["l"], power=power)
    lists = ListColumn(
        lengths=np.array([2, 0, 1, 0, 0, 0, 1], np.int32), values=np.array([0, 6, 3, 1], np.int32)
    )
    nothing = np.zeros((7, 0), np.float32)
    ids = np.arange(7, dtype=np.int32)[None]
    found = weigh(Columns(labels=nothing[:, 0:0].sum(1), dense=nothing, ids=ids, lists=(lists,)))
    expected = [weight_of(rank, power) for rank in range(7)]
    assert found[:, 0] == pytest.approx(expected)
    assert np.dot(found[:, 0], COUNTS) / 190 == pytest.approx(1)
    assert found[:3, 1] == pytest.approx([(expected[0] + expected[6]) / 2, 0, expected[3]])


def test_lists_that_are_always_empty_weigh_nothing():
    stats = FieldStats(name="l", num_embeddings=2, num_lookups=0, frequency_curve=((2, 0),))
    empty = ListColumn(lengths=np.zeros(3, np.int32), values=np.zeros(0, np.int32))
    none, single = np.zeros((3, 0), np.float32), np.zeros((0, 3), np.int32)
    examples = Columns(labels=np.zeros(3, np.float32), dense=none, ids=single, lists=(empty,))
    assert LookupWeights([stats], ["l"], power=0.5)(examples).tolist() == [[0], [0], [0]]


@pytest.mark.dist
@pytest.mark.parametrize("nproc", [1, 2])
@pytest.mark.parametrize(("kind", "sparse"), [("row_wise", "sgd"), ("data_parallel", "amsgrad")])
def test_regularised_training_equals_a_float64_loop(kind, sparse, nproc, tmp_path):
    config = make_run(tmp_path, l2=0.2, l2_power=0.0, l2_fields={"C2": 3.0}, **sharded(kind, "sgd"))
    moving = OptimizerConfig(sparse=sparse, sparse_lr=0.05, dense_lr=0.01, eps=1e-6)
    config = replace(config, optimizer=moving)
    plan = read_sizing(config.sizing).plan
    ranks = replace(config, batch_size=128 // nproc)
    start, found = launch(train_sharded, ranks, plan, 12, nproc=nproc, name="l2")

    def penalty(fields, batch):
        factors = {"C2": 0.6}
        norms = [factors.get(f, 0.2) * (v**2).sum(1) for f, v in fields.items()]
        return sum(norms).mean()

    expected = train_plainly(config, plan, 12, start, penalty)
    free = train_plainly(config, plan, 12, start)
    for name, weight in expected.items():
        assert found[name] == pytest.approx(weight, abs=2e-5, rel=0), name
    assert max(np.abs(free[name] - expected[name]).max() for name in expected) > 1e-3


@pytest.mark.dist
@pytest.mark.parametrize("nproc", [1, 2])
def test_training_regularised_by_frequency_equals_a_float64_loop(nproc, tmp_path):
    config = make_run(tmp_path, l2=0.2, **sharded("table_wise", "sgd"))
    info = read_dataset_info(config.data)
    fields = [replace(f, stats=replace(f.stats, frequency_curve=CURVE)) for f in info.fields[1:2]]
    fields = (info.fields[0], *fields, *info.fields[2:])
    write_dataset_info(replace(info, fields=fields), config.data)
    plan = read_sizing(config.sizing).plan
    ranks = replace(config, batch_size=128 // nproc)
    start, found = launch(train_sharded, ranks, plan, 5, nproc=nproc, name="l2")

    def penalty(fields, batch):
        by_id = torch.tensor([weight_of(rank, 0.5) for rank in range(7)])
        weights = {"C2": by_id[batch.features["C2"].values()]}
        norms = [0.2 * (v**2).sum(1) * weights.get(f, 1) for f, v in fields.items()]
        return sum(norms).mean()

    expected = train_plainly(config, plan, 5, start, penalty)
    for name, weight in expected.items():
        assert found[name] == pytest.approx(weight, abs=2e-5, rel=0), name


def task_and_batch(network, *, bf16=False, **factors):
    embeddings = embeddings_of(PAIR)
    penalty = L2Penalty(embeddings.field_names, embeddings.field_dims, **factors)
    task = TrainTask(
        network.build(embeddings, 0),
        "rating",
        label_mean=3.0,
        bf16_on="cpu" if bf16 else None,
        penalty=penalty,
    )
    dense, features = inputs_of(tuple(PAIR), num_dense=0)
    weights = torch.full((6,), 1 / 6)
    return task, Batch(dense=dense, features=features, labels=torch.ones(6), weights=weights)


@pytest.mark.parametrize("bf16", [False, True])
def test_what_is_reported_is_the_loss_without_the_penalty(bf16):
    task, batch = task_and_batch(MFNetwork(), bf16=bf16, l2=0.1)
    minimised, (reported, predictions, _) = task(batch)
    vectors = task.network.embeddings(batch.features).side_by_side.double()  # never in bf16
    assert float(reported) == pytest.approx(float(((predictions - 1) ** 2).mean()), rel=1e-6)
    penalty = 0.1 * (vectors**2).sum(1).mean().item()
    assert (minimised - reported).item() == pytest.approx(penalty, rel=1e-5, abs=1e-6)


def test_evaluation_is_not_penalised():
    task, batch = task_and_batch(MFNetwork(), l2=0.1)
    task.eval()
    minimised, (reported, _, _) = task(batch)
    assert minimised.item() == reported.item()


@pytest.mark.parametrize(
    ("network", "has_bias"),
    [(MFNetwork(), True), (MFNetwork(biases="none"), False), (DotBiasNetwork(), True)],
)
def test_biases_have_a_factor_of_their_own_where_there_are_biases(network, has_bias, tmp_path):
    config = make_run(tmp_path, l2=0.5, l2_bias=0.1, network=network)
    plan = read_sizing(config.sizing).plan
    pair = replace(plan, fields={name: plan.fields[name] for name in ("C1", "C2")})
    task = build_task(config, read_dataset_info(config.data), pair, device=torch.device("cpu"))
    factors = task.penalty.factors.sum(1)
    assert factors[[0, 16]].tolist() == pytest.approx([0.1 if has_bias else 0.5] * 2)
    assert factors[[1, 15, 17]].tolist() == pytest.approx([0.5] * 3)


def test_a_factor_for_a_field_that_does_not_exist_is_refused(tmp_path):
    config = make_run(tmp_path, l2=0.5, l2_fields={"C9": 1.0})
    plan = read_sizing(config.sizing).plan
    with pytest.raises(ValueError, match=r"l2_fields: \['C9'\] are not fields of the sizing plan"):
        build_task(config, read_dataset_info(config.data), plan, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l2": -1.0}, "l2=-1.0, expected 0 or more"),
        ({"l2_bias": -1.0}, "l2_bias=-1.0, expected 0 or more"),
        ({"l2_growth": -1.0}, "l2_growth=-1.0, expected 0 or more"),
        ({"l2_power": 2.0}, r"l2_power=2.0, expected in \[0, 1\]"),
        ({"l2_fields": {"a": -1.0}}, "l2_fields={'a': -1.0}, expected factors of 0 or more"),
    ],
)
def test_penalties_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)
