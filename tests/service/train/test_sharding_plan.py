"""A run takes the plan it is given, goes on with the one it had, and says when it cannot."""

import json
import pickle
from dataclasses import replace

import pytest

from models.tables import PlanError
from service.config import OptimizerConfig
from service.distributed import launch
from service.run_folder import SHARDING_FILE
from service.sharding_file import read_sharding
from service.train.loop import train
from sharding.constraints import ShardingConfig
from tests.service.train.plan_runs import edited, train_with_plans
from tests.service.train.runs import make_run

ROWS = {"train": 256, "validation": 64, "test": 64}


def kinds(run):
    return {table.name: table.sharding_type for table in read_sharding(run / SHARDING_FILE).tables}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    config = make_run(
        tmp_path_factory.mktemp("plans"),
        rows=ROWS,
        batch_size=32,
        max_steps=4,
        optimizer=OptimizerConfig(sparse="adagrad"),
    )
    return config, launch(train_with_plans, config, nproc=2, name="plans")


@pytest.mark.dist
def test_a_plan_edited_by_hand_is_trained_to_the_same_scores(two_ranks):
    config, (whole, changed, _) = two_ranks
    assert set(kinds(config.output / "whole").values()) == {"table_wise"}
    found = kinds(config.output / "changed")
    assert (found["C1"], found["C2"], found["C4"]) == ("row_wise", "column_wise", "table_wise")
    assert changed.scores == pytest.approx(whole.scores, abs=1e-5)


@pytest.mark.dist
def test_a_resumed_run_goes_on_with_the_plan_it_had(two_ranks):
    config, (_, changed, resumed) = two_ranks
    assert kinds(config.output / "half") == kinds(config.output / "changed")
    assert resumed.scores == pytest.approx(changed.scores, abs=1e-6)


@pytest.fixture
def ended(tmp_path):
    """A run of one rank that can be resumed."""
    config = make_run(tmp_path, rows=ROWS, batch_size=64, max_steps=4)
    launch(train, config, nproc=1, name="ended")
    return replace(config, resume=True, max_steps=5)


def resumed(config):
    return launch(train, config, nproc=1, name="resumed")


def with_ranks(ended, number):
    path = ended.output / SHARDING_FILE
    content = json.loads(path.read_text())
    content["placement"] |= {"num_ranks": number, "ranks_per_host": number}
    path.write_text(json.dumps(content))


def test_on_another_number_of_ranks_a_run_is_planned_anew_and_says_so(ended, capsys):
    with_ranks(ended, 2)
    resumed(ended)
    said = capsys.readouterr().err
    assert "sharding plan: made anew, for" in said
    assert "places tables on 2 ranks, this job has 1" in said
    assert read_sharding(ended.output / SHARDING_FILE).num_ranks == 1


def test_other_options_of_sharding_are_followed_when_resuming(ended, capsys):
    resumed(replace(ended, sharding=ShardingConfig(tables={"C1": "column_wise"})))
    assert "made under other --sharding options" in capsys.readouterr().err
    assert kinds(ended.output)["C1"] == "column_wise"


def broken(key, value):
    def edit(table):
        if table["name"] == "C1":
            (table if key in table else table["shards"][0])[key] = value

    return edit


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rank", 3, r"plan.json: table 'C1': a shard is on rank 3, .* give it one from 0 to 0"),
        ("num_rows", 9, r"plan.json: table 'C1': shard 0 of table_wise is 9 x 8 .* expected 40 x"),
        (
            "kernel",
            "fused_uvm",
            r"plan.json: table 'C1': kernel 'fused_uvm', expected fused .* cpu",
        ),
        ("embedding_dim", 4, r"plan.json: table 'C1': shard 0 .* is 40 x 8 .* leave out"),
        ("name", "C9", r"plan.json has table 'C1' as none, the sizing plan has it as 40 x 8"),
    ],
)
def test_a_wrong_plan_is_refused_with_file_table_and_fix(ended, tmp_path, key, value, message):
    plan = tmp_path / "plan.json"
    edited(ended.output / SHARDING_FILE, plan, broken(key, value))
    config = replace(ended, resume=False, output=tmp_path / "again", plan=plan)
    with pytest.raises(ValueError, match=message):
        resumed(config)


def test_a_plan_error_reaches_other_ranks_whole():
    error = pickle.loads(pickle.dumps(PlanError("too large", needed_bytes=5, table="C1")))
    assert (str(error), error.needed_bytes, error.table) == ("too large", 5, "C1")
