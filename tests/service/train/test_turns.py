"""Weights and architecture learn in turns, from examples of their own, on any ranks."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.embeddings.choice import Alternation
from models.embeddings.choices import MixedChoice
from service.distributed import launch
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from tests.service.train.runs import sharded
from tests.service.train.turn_runs import (
    ODD_ROWS,
    SEARCH,
    learned_on_one_and_two_ranks,
    make_search,
    search,
    search_each,
    weights_of,
)

FUSED = [
    (kind, optimizer)
    for kind in ("table_wise", "row_wise", "column_wise")
    for optimizer in ("sgd", "adagrad", "rowwise_adagrad")
]
COPIED = [("data_parallel", optimizer) for optimizer in ("sgd", "adagrad", "adam", "amsgrad")]


def is_architecture(name: str) -> bool:
    return name.removeprefix("model.").startswith("network.embeddings.mixture.theta")


def check_turns(seen, *, weight_steps=3):
    """Every step moves what it is to move, and nothing else to the last bit."""
    turns = [turn.moves_weights for turn, _ in seen.changed]
    assert turns == ([True] * weight_steps + [False]) * (len(turns) // (weight_steps + 1))
    tables = {name for name in seen.names if ".embedding_bags." in name and ": " not in name}
    for turn, changed in seen.changed:
        if turn.moves_weights:
            assert not any(map(is_architecture, changed))
            assert tables <= set(changed)
        else:
            assert changed
            assert all(map(is_architecture, changed)), changed


@pytest.mark.parametrize(("kind", "optimizer"), FUSED + COPIED)
def test_architecture_steps_change_no_weight_and_no_state(kind, optimizer, tmp_path):
    (seen,) = search_each(make_search(tmp_path), [(kind, optimizer)], 6)
    check_turns(seen)


@pytest.mark.dist
def test_architecture_steps_change_no_weight_on_two_ranks(tmp_path):
    cases = [("table_wise", "rowwise_adagrad"), ("row_wise", "adagrad"), ("data_parallel", "adam")]
    for seen in launch(search_each, make_search(tmp_path), cases, 6, nproc=2, name="turns"):
        check_turns(seen)


AHEAD = replace(SEARCH, alternation=replace(SEARCH.alternation, step_size=0.01))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_steps_that_look_ahead_change_no_weight_either(optimizer, tmp_path):
    config = make_search(tmp_path, embeddings=AHEAD)
    (seen,) = search_each(config, [("data_parallel", optimizer)], 6)
    check_turns(seen)


def test_looking_ahead_is_another_gradient_than_looking_on(tmp_path):
    found = []
    for step_size in (0.0, 1e-9, 1.0):
        alternation = replace(SEARCH.alternation, step_size=step_size)
        config = make_search(tmp_path / str(step_size))
        config = replace(config, embeddings=replace(SEARCH, alternation=alternation), max_steps=3)
        launch(train, replace(config, **sharded("data_parallel", "adam")), nproc=1, name="ahead")
        exp_avg = [v for n, v in weights_of(config).items() if "theta" in n and "exp_avg" in n]
        found.append(min(exp_avg, key=lambda value: float(np.abs(value).max()) == 0))
    assert found[1] == pytest.approx(found[0], rel=1e-2, abs=1e-6)
    assert not np.allclose(found[2], found[0], rtol=0.1)


@pytest.mark.parametrize("step_size", [0.0, 1e-9])
def test_architecture_is_judged_by_the_loss_without_the_penalty(step_size, tmp_path):
    found = []
    for l2 in (0.0, 10.0):
        alternation = replace(SEARCH.alternation, weight_steps=1, step_size=step_size)
        config = make_search(tmp_path / str(l2), l2=l2)
        config = replace(config, embeddings=replace(SEARCH, alternation=alternation), max_steps=1)
        optimizer = replace(sharded("data_parallel", "sgd")["optimizer"], sparse_lr=1e-12)
        optimizer = replace(optimizer, dense_lr=1e-12)  # weights stay what they are
        config = replace(config, **sharded("data_parallel", "sgd") | {"optimizer": optimizer})
        launch(train, config, nproc=1, name="judged")
        exp_avg = [v for n, v in weights_of(config).items() if "theta" in n and "exp_avg" in n]
        found.append(min(exp_avg, key=lambda value: float(np.abs(value).max()) == 0))
    assert np.abs(found[0]).max() > 1e-4
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-7)


def test_kernels_that_move_tables_cannot_look_ahead(tmp_path):
    with pytest.raises(ValueError, match=r"step_size=0\.01 moves weights ahead and back"):
        search(make_search(tmp_path, embeddings=AHEAD), 1)


def test_architecture_learns_from_validation_rows_alone(tmp_path):
    config = make_search(tmp_path)
    seen = search(config, 9)
    rows = {}
    for split in ("train", "validation"):
        table = pq.read_table(config.data / split, columns=["I1", "I2", "I3"])
        rows[split] = {tuple(row.values()) for row in table.to_pylist()}
    assert not rows["train"] & rows["validation"]
    for moves_weights, dense in seen.read:
        own = rows["train" if moves_weights else "validation"]
        assert {tuple(row) for row in dense.tolist()} <= own


def test_architecture_and_weights_may_learn_together(tmp_path):
    together = replace(SEARCH, alternation=Alternation(split="train", pretrain_examples=256))
    seen = search(make_search(tmp_path, embeddings=together), 4)
    assert [any(map(is_architecture, changed)) for _, changed in seen.changed] == [
        False,
        False,
        True,
        True,
    ]
    assert all(turn.moves_weights for turn, _ in seen.changed)


def test_architecture_rests_while_weights_are_pretrained(tmp_path):
    later = replace(SEARCH, alternation=Alternation(weight_steps=1, pretrain_examples=256))
    seen = search(make_search(tmp_path, embeddings=later), 4)
    assert [turn.moves_weights for turn, _ in seen.changed] == [True] * 3 + [False, True, False]


@pytest.mark.parametrize("stop", [4, 5, 6, 33])
def test_a_search_that_is_resumed_anywhere_ends_as_an_undisturbed_one(stop, tmp_path):
    # 32 steps an epoch, 4 batches of the validation split: both begin anew under way.
    config = make_search(tmp_path, epochs=2, validate_every=stop, patience=99)
    launch(train, replace(config, max_steps=40), nproc=1, name="undisturbed")
    other = replace(config, output=tmp_path / "stopped")
    launch(train, replace(other, max_steps=stop), nproc=1, name="stopped")
    launch(train, replace(other, max_steps=40, resume=True), nproc=1, name="resumed")
    undisturbed, resumed = weights_of(config), weights_of(other)
    assert undisturbed.keys() == resumed.keys()
    for name, value in undisturbed.items():
        assert np.array_equal(value, resumed[name]), name


@pytest.mark.dist
@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param(
            # Not Adam: where a gradient is nearly 0 it makes whole steps of what rounding leaves.
            {"embeddings": AHEAD, **sharded("data_parallel", "sgd")},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["first order", "second order"],
)
def test_two_ranks_search_as_one_does(changes, tmp_path):
    learned_on_one_and_two_ranks(
        make_search(tmp_path, rows=ODD_ROWS, epochs=2, patience=9, **changes)
    )


def test_a_search_is_evaluated_as_it_validated(tmp_path):
    config = make_search(tmp_path, epochs=1)
    result = launch(train, config, nproc=1, name="search")
    assert evaluate_run(EvaluateConfig(run=config.output)).scores == result.scores
    record = json.loads((config.output / "run.json").read_text())
    fields, candidates, width = 4, 3, 16
    assert record["parameters"] == {
        "tables": (40 + 7 + 300 + 500) * width,
        "projections": fields * candidates + (2 + 8 + 16) * width,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {"train": 256, "validation": 0, "test": 9}}, "architecture of autodim learns"),
        ({"embeddings": replace(SEARCH, candidates=(4, 8))}, "AutoDim searches below one table of"),
    ],
)
def test_a_search_that_cannot_be_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        launch(train, make_search(tmp_path, **changes), nproc=1, name="refused")


def test_only_tables_of_a_plan_start_from_another_run(tmp_path):
    with pytest.raises(ValueError, match="embeddings of kind 'autodim' cannot start from"):
        make_search(tmp_path, warm_start=tmp_path / "other")


def test_tables_of_a_plan_do_not_start_from_a_search(tmp_path):
    config = make_search(tmp_path, epochs=1)
    launch(train, config, nproc=1, name="search")
    from_it = replace(config, embeddings=MixedChoice(), output=tmp_path / "next")
    from_it = replace(from_it, warm_start=config.output)
    with pytest.raises(ValueError, match="has embeddings of kind 'autodim', expected"):
        launch(train, from_it, nproc=1, name="refused")
