"""Packed and hashed tables train as unpacked float64 ones do, on one rank and on two."""

from dataclasses import replace

import numpy as np
import pytest

from service.config import OptimizerConfig
from service.distributed import launch
from service.sizing import read_sizing
from service.train.loop import train
from sharding.constraints import ShardingConfig
from tests.service.train.packed_runs import load_all, make_packed_run, train_all
from tests.service.train.unpacked import train_unpacked

CASES = [
    ("table_wise", "sgd", "sum"),
    ("table_wise", "adagrad", "mean"),
    ("row_wise", "sgd", "mean"),
    ("row_wise", "adagrad", "sum"),
    ("data_parallel", "adagrad", "mean"),
    ("data_parallel", "adam", "mean"),
    ("data_parallel", "amsgrad", "sum"),
    ("row_wise", "rowwise_adagrad", "sum"),  # which shares its state among packed rows
]
TURNED = {"table_wise": "row_wise", "row_wise": "table_wise"}
RATES = {"sgd": 10.0, "adagrad": 0.1, "adam": 0.01, "amsgrad": 0.01, "rowwise_adagrad": 0.1}
"""At which every table moves by far more than single precision errs."""
COPIES = {"sgd": 1, "adagrad": 2, "adam": 3, "amsgrad": 4, "rowwise_adagrad": 1}
"""Numbers that are kept for a weight, itself included."""
FLOAT = 4


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_packed_run(tmp_path_factory.mktemp("packed"))


def variants(config, nproc):
    """The run under every kind of sharding, optimizer and pooling, each with its own folder."""
    return [
        replace(
            config,
            output=config.output / f"{nproc}-{kind}-{optimizer}-{pooling}",
            sharding=ShardingConfig(types=(kind,)),
            optimizer=OptimizerConfig(
                sparse=optimizer, sparse_lr=RATES[optimizer], dense_lr=0.01, eps=1e-4
            ),
            pooling=pooling,
        )
        for kind, optimizer, pooling in CASES
    ]


@pytest.fixture(scope="module", params=[1, 2])
def trained(request, config):
    configs = variants(config, request.param)
    found = launch(train_all, configs, nproc=request.param, name="packed")
    return list(zip(CASES, configs, found, strict=True))


@pytest.fixture(scope="module")
def oracle():
    """Training in float64, once for each optimizer and pooling: all start alike."""
    known = {}

    def trained_once(case, config, start):
        if case[1:] not in known:
            known[case[1:]] = train_unpacked(config, start)
        return known[case[1:]]

    return trained_once


def differences(found, expected):
    return {name: np.abs(found[name] - expected[name]).max() for name in expected}


@pytest.mark.dist
def test_packed_training_equals_an_unpacked_model_in_float64(trained, oracle):
    for case, config, found in trained:
        expected, losses = oracle(case, config, found.before)
        assert np.allclose(found.losses, losses, atol=2e-6), case
        for part in ("tables", "projections", "dense"):
            off = differences(getattr(found.after, part), getattr(expected, part))
            assert max(off.values()) < 2e-6, (case, off)
        moved = differences(found.after.tables, found.before.tables)
        assert min(moved.values()) > 1e-3, (case, moved)


@pytest.mark.dist
def test_slots_that_hold_no_row_stay_zero(trained):
    for case, _, found in trained:
        left_over = [values for values in found.after.padding.values() if values.size]
        assert len(left_over) == 7 and not any(values.any() for values in left_over), case


@pytest.mark.dist
def test_the_start_depends_on_no_sharding(trained):
    first, *others = (found.before for _, _, found in trained)
    for other in others:
        assert all(np.array_equal(other.tables[name], first.tables[name]) for name in first.tables)


@pytest.mark.dist
def test_allocated_bytes_are_those_of_the_stored_tables(trained):
    for (kind, optimizer, _), config, found in trained:
        nproc = int(config.output.name[0]) if kind == "data_parallel" else 1
        for table in read_sizing(config.sizing).plan.tables():
            width = max(4, table.embedding_dim)
            rows = -(-table.num_embeddings * table.embedding_dim // width)
            numbers = rows * width * COPIES[optimizer]
            numbers += rows if optimizer == "rowwise_adagrad" else 0
            assert found.held_bytes[table.name] == nproc * FLOAT * numbers


@pytest.mark.dist
def test_a_checkpoint_of_packed_tables_loads_on_other_ranks_under_another_sharding(trained):
    # SGD has no state, which no checkpoint of one rank gives to two.
    saved = [one for one in trained if one[0][0] in TURNED and one[0][1] == "adagrad"]
    configs = [
        replace(config, sharding=ShardingConfig(types=(TURNED[kind],)))
        for (kind, _, _), config, _ in saved
    ]
    nproc = 1 if configs[0].output.name.startswith("2-") else 2
    loaded = launch(load_all, configs, nproc=nproc, name="loads")
    for state, (case, _, found) in zip(loaded, saved, strict=True):
        for name, rows in found.after.tables.items():
            assert np.array_equal(state.tables[name], rows), (case, name)


def test_a_packed_run_resumes_from_the_middle_to_the_same_scores(config):
    config = replace(
        variants(config, 1)[CASES.index(("table_wise", "adagrad", "mean"))],
        output=config.output / "resumed",
        max_steps=11,
        checkpoint_every=6,
    )
    expected = launch(train, config, nproc=1, name="whole")
    (config.output / "checkpoints" / "step-00000011" / ".metadata").unlink()
    resumed = launch(train, replace(config, resume=True), nproc=1, name="again")
    assert (resumed.steps, resumed.scores) == (11, expected.scores)
