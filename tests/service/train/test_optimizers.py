"""Optimizers of tables: fused or not, sharded or not, what their papers say."""

from dataclasses import replace

import pytest

from models.sizing import plan_bytes
from models.tables import Block, SizingPlan
from service.config import OptimizerConfig
from service.distributed import launch
from service.sharding_file import read_sharding
from service.sizing import read_sizing, write_sizing
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from sharding.constraints import ShardingConfig
from tests.service.train.plain import TABLES, train_plainly, train_sharded
from tests.service.train.runs import make_run, trace

STEPS = 12
UNFUSED = ["amsgrad", "adam"]


def optimizer(sparse: str) -> OptimizerConfig:
    return OptimizerConfig(sparse=sparse, sparse_lr=0.02, dense_lr=0.01, eps=1e-6)  # type: ignore[arg-type]


def assert_same_weights(found, expected, atol=2e-5):
    assert set(expected) <= set(found)
    for name, weight in expected.items():
        assert found[name] == pytest.approx(weight, abs=atol, rel=0), name


@pytest.mark.dist
@pytest.mark.parametrize("nproc", [1, 2])
@pytest.mark.parametrize("sparse", UNFUSED)
def test_dense_tables_train_like_a_float64_loop_of_the_formulas(sparse, nproc, tmp_path):
    config = make_run(tmp_path, optimizer=optimizer(sparse))
    plan = read_sizing(config.sizing).plan
    ranks = replace(config, batch_size=128 // nproc)
    start, found = launch(train_sharded, ranks, plan, STEPS, nproc=nproc, name="unfused")
    assert_same_weights(found, train_plainly(config, plan, STEPS, start))


@pytest.mark.dist
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_dense_tables_may_have_any_width(width, tmp_path):
    config = make_run(tmp_path, optimizer=optimizer("amsgrad"))
    plan = read_sizing(config.sizing).plan
    narrow = (Block(num_embeddings=500, embedding_dim=width, asked_dim=width),)
    plan = SizingPlan(fields={**plan.fields, "C4": narrow}, out_dim=plan.out_dim)
    start, found = launch(train_sharded, config, plan, STEPS, nproc=1, name="narrow")
    assert found[f"{TABLES}C4.weight"].shape == (500, width)
    assert_same_weights(found, train_plainly(config, plan, STEPS, start))


def test_a_run_of_odd_widths_goes_from_file_to_scores(tmp_path):
    config = make_run(tmp_path, optimizer=optimizer("amsgrad"), max_steps=5)
    sizing = read_sizing(config.sizing)
    odd = (Block(num_embeddings=500, embedding_dim=3, asked_dim=3),)
    fields = {**sizing.fields, "C4": odd}
    write_sizing(replace(sizing, fields=fields, optimizer="amsgrad"), config.sizing)
    result = launch(train, config, nproc=1, name="odd")
    again = launch(evaluate_run, EvaluateConfig(run=config.output), nproc=1, name="again")
    assert again.scores == pytest.approx(result.scores, abs=1e-6)
    fused = replace(config, output=tmp_path / "fused", optimizer=optimizer("sgd"))
    with pytest.raises(ValueError, match="'C4': embedding_dim=3, expected 1, 2 or a multiple of 4"):
        launch(train, fused, nproc=1, name="fused")


def test_the_two_rules_differ(tmp_path):
    """Else the test against the formulas could not tell them apart."""
    config = make_run(tmp_path, optimizer=optimizer("adam"))
    plan = read_sizing(config.sizing).plan
    start, found = launch(train_sharded, config, plan, STEPS, nproc=1, name="adam")
    other = replace(config, optimizer=optimizer("amsgrad"))
    with pytest.raises(AssertionError):
        assert_same_weights(found, train_plainly(other, plan, STEPS, start))


@pytest.mark.parametrize("sparse", UNFUSED)
def test_planned_bytes_are_the_allocated_bytes(sparse, tmp_path):
    config = make_run(tmp_path, optimizer=optimizer(sparse))
    found = launch(trace, config, 1, nproc=1, name="bytes")
    planned = plan_bytes(found.plan, sparse)
    projections = sum(t.projection + t.projection_state for t in planned.tables.values())
    assert found.held_bytes == planned.training_bytes - projections


@pytest.mark.parametrize("sparse", UNFUSED)
def test_a_resumed_run_of_dense_tables_ends_as_an_undisturbed_one(sparse, tmp_path):
    config = make_run(tmp_path, optimizer=optimizer(sparse), max_steps=20, checkpoint_every=8)
    expected = launch(train, config, nproc=1, name="calm")
    (config.output / "checkpoints" / "step-00000020" / ".metadata").unlink()
    resumed = launch(train, replace(config, resume=True), nproc=1, name="go-on")
    assert resumed.scores == expected.scores


@pytest.mark.dist
def test_a_run_of_dense_tables_trains_and_evaluates_on_two_ranks(tmp_path):
    config = make_run(tmp_path, optimizer=optimizer("amsgrad"), batch_size=64, nproc=2)
    result = launch(train, config, nproc=2, name="two")
    placed = read_sharding(config.output / "sharding.json")
    assert {(t.sharding_type, t.kernel) for t in placed.tables} == {("data_parallel", "dense")}
    again = launch(evaluate_run, EvaluateConfig(run=config.output), nproc=1, name="again")
    assert again.scores == pytest.approx(result.scores, abs=1e-6)


@pytest.mark.parametrize(
    ("sharding", "message"),
    [
        (ShardingConfig(types=("row_wise",)), "sharding types row_wise, but amsgrad is not fused"),
        (ShardingConfig(tables={"C2": "table_wise"}), "table 'C2': sharding 'table_wise', but"),
    ],
)
def test_sharding_that_excludes_copies_is_refused_where_they_are_needed(
    sharding, message, tmp_path
):
    config = make_run(tmp_path, optimizer=optimizer("amsgrad"), sharding=sharding)
    with pytest.raises(ValueError, match=message):
        launch(train, config, nproc=1, name="refused")


def test_a_plan_that_shards_dense_tables_is_refused(tmp_path):
    config = make_run(tmp_path, max_steps=1)
    launch(train, config, nproc=1, name="fused")
    planned = replace(
        config,
        output=tmp_path / "other",
        plan=config.output / "sharding.json",
        optimizer=optimizer("adam"),
    )
    with pytest.raises(ValueError, match="shards tables, but adam is not fused on cpu"):
        launch(train, planned, nproc=1, name="refused")
