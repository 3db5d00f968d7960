"""One rank or two, table-wise or row-wise: the same numbers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.sizing import plan_bytes
from service.distributed import launch
from service.train.loop import train
from tests.service.train.runs import forward_of_example, make_run, sharded, trace
from tests.service.train.skips import checkpoint_of, stored

GOLDEN = Path(__file__).parents[2] / "golden"

STEPS = 20

# Row-wise Adagrad keeps one number a row of a shard: under column-wise sharding that is another
# optimizer (docs/sharding.md), so columns are compared under the element-wise one.
CASES = [
    ("table_wise", "rowwise_adagrad"),
    ("row_wise", "rowwise_adagrad"),
    ("column_wise", "adagrad"),
    ("data_parallel", "rowwise_adagrad"),
    ("data_parallel", "adagrad"),
    ("table_wise", "sgd"),
]


def logits(probabilities):
    wide = probabilities.astype(np.float64)
    return np.log(wide) - np.log1p(-wide)


@pytest.mark.dist
@pytest.mark.parametrize(("kind", "optimizer"), CASES, ids=lambda value: str(value))
def test_two_ranks_train_like_one(kind, optimizer, tmp_path):
    config = make_run(tmp_path, **sharded(kind, optimizer))
    one = launch(
        trace,
        replace(config, **sharded("table_wise", optimizer)),
        STEPS,
        nproc=1,
        name="one",
    )
    two = launch(trace, replace(config, batch_size=64), STEPS, nproc=2, name="two")
    assert np.allclose(one.losses, two.losses, atol=1e-5)
    assert np.allclose(logits(one.predictions), logits(two.predictions), atol=1e-5, rtol=0)
    assert one.losses[-1] < one.losses[0]


@pytest.mark.dist
def test_more_ranks_than_rows_train_like_one(tmp_path):
    one = make_run(tmp_path, rows={"train": 1, "validation": 1, "test": 1}, epochs=3, patience=9)
    two = replace(one, output=tmp_path / "two", batch_size=64)
    steps = [launch(train, run, nproc=n, name="few").steps for n, run in enumerate((one, two), 1)]
    assert steps == [3, 3]
    expected, found = (stored(checkpoint_of(run, 3)) for run in (one, two))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.allclose(found[name], values, atol=1e-6), name


@pytest.mark.dist
@pytest.mark.parametrize("kind", ["table_wise", "row_wise", "column_wise", "data_parallel"])
def test_every_table_moves(kind, tmp_path):
    config = make_run(tmp_path, **sharded(kind, "rowwise_adagrad"))
    moved = launch(trace, config, 5, nproc=1, name="moves").moved
    assert len(moved) == 5
    assert min(moved.values()) > 1e-4


@pytest.mark.dist
@pytest.mark.parametrize("nproc", [1, 2])
@pytest.mark.parametrize("kind", ["table_wise", "row_wise"])
def test_sharded_forward_equals_the_worked_example_of_the_paper(kind, nproc):
    golden = json.loads((GOLDEN / "mde_forward.json").read_text())
    found = launch(forward_of_example, golden, kind, nproc=nproc, name="golden")
    assert found == [golden["out"][str(row)] for row in range(5)]


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "adagrad", "sgd"])
def test_planned_bytes_are_the_allocated_bytes(optimizer, tmp_path):
    config = make_run(tmp_path, **sharded("table_wise", optimizer))
    found = launch(trace, config, 1, nproc=1, name="bytes")
    planned = plan_bytes(found.plan, optimizer)
    projections = sum(t.projection + t.projection_state for t in planned.tables.values())
    assert found.held_bytes == planned.training_bytes - projections
