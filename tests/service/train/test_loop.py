"""What a run does over its epochs: it learns, drops its rates, keeps its best, stops early."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from models.networks import DeepFMNetwork, DLRMNetwork, MFNetwork
from service.commands.plan import main as plan_main
from service.config import OptimizerConfig, TrainConfig
from service.data.dataset import read_dataset_info, write_dataset_info
from service.distributed import launch
from service.run_cost import own_cost
from service.run_folder import RunFolder
from service.sharding_file import read_sharding
from service.sizing import read_sizing, write_sizing
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from service.train.run_data import shared_among
from tests.datasets import rewrite, write_dataset
from tests.service.train.runs import make_run, sharded


def lines_of(config: TrainConfig, kind: str) -> list[dict[str, float]]:
    lines = (config.output / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


@pytest.mark.parametrize(
    "network", [DLRMNetwork(bottom=(16,), top=(16,)), DeepFMNetwork(hidden=(16,))]
)
def test_every_epoch_trains(network, tmp_path):
    config = make_run(tmp_path, network=network, epochs=3)
    result = launch(train, config, nproc=1, name="epochs")
    losses = [line["loss"] for line in lines_of(config, "train")]
    steps = -(-4000 // 128)
    assert result.steps == 3 * steps
    assert sum(losses[:3]) / 3 > sum(losses[len(losses) // 2 :][:3]) / 3 > sum(losses[-3:]) / 3
    assert result.scores["auc"] > 0.65


def test_scores_that_are_no_numbers_are_null_in_the_result(tmp_path):
    config = make_run(tmp_path, rows={"train": 200, "validation": 50, "test": 1}, max_steps=1)
    launch(train, config, nproc=1, name="one label")
    text = (config.output / "result.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["scores"]["auc"] is None


def test_scores_of_the_training_split_are_no_lines_of_training(tmp_path):
    rows = {"train": 400, "validation": 0, "test": 0}
    config = make_run(tmp_path, rows=rows, epochs=2, log_every=1)
    result = launch(train, config, nproc=1, name="nothing held out")
    assert (result.split, len(lines_of(config, "train_split"))) == ("train", 1)
    assert all("loss" in line for line in lines_of(config, "train"))
    assert own_cost(config.output).examples == 800


@pytest.mark.parametrize("name", ["batch_size", "nproc"])
def test_an_evaluation_on_nothing_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name}=0, expected at least 1"):
        EvaluateConfig(run=tmp_path, **{name: 0})


@pytest.mark.dist
@pytest.mark.parametrize("kind", ["table_wise", "row_wise", "column_wise", "data_parallel"])
def test_every_epoch_trains_on_two_ranks_with_uneven_shards(kind, tmp_path):
    config = make_run(tmp_path, rows={"train": 1001, "validation": 3, "test": 33}, epochs=3)
    config = replace(config, batch_size=100, nproc=2, patience=9, **sharded(kind, "adagrad"))
    result = launch(train, config, nproc=2, name="uneven")
    assert result.steps == 3 * 6
    assert result.scores["num_rows"] == 33


def test_ratings_are_factorized(tmp_path):
    config = make_run(tmp_path, network=MFNetwork(), epochs=6, patience=6)
    write_dataset(tmp_path / "ratings", num_embeddings=(40, 30), num_dense=0, rating=True)
    sizing = read_sizing(config.sizing)
    pair = {"C1": sizing.fields["C1"], "C2": (replace(sizing.fields["C1"][0], num_embeddings=30),)}
    write_sizing(replace(sizing, fields=pair, out_dim=8), config.sizing)
    fast = OptimizerConfig(sparse="adagrad", sparse_lr=0.1, dense_lr=0.05)
    config = replace(config, data=tmp_path / "ratings", optimizer=fast, batch_size=50)
    result = launch(train, config, nproc=1, name="ratings")
    first = lines_of(config, "validation")[0]["mse"]
    assert result.scores["mse"] < 0.8 * first


def test_rates_drop_and_training_stops_when_nothing_improves(tmp_path):
    frozen = OptimizerConfig(sparse="sgd", sparse_lr=1e-30, dense_lr=1e-30, plateau_factor=0.5)
    config = make_run(tmp_path, epochs=9, patience=3, optimizer=frozen)
    result = launch(train, config, nproc=1, name="plateau")
    progress = json.loads(
        next((config.output / "checkpoints").glob("step-*128/progress.json")).read_text()
    )
    assert result.steps == 4 * 32
    assert result.best_step == 32
    assert progress["lr_ratio"] == 0.5**3


def test_a_resumed_run_drops_its_rates_and_stops_where_an_undisturbed_one_does(tmp_path):
    frozen = OptimizerConfig(sparse="sgd", sparse_lr=1e-30, dense_lr=1e-30, plateau_factor=0.5)
    config = make_run(tmp_path, epochs=3, patience=3, optimizer=frozen)
    launch(train, config, nproc=1, name="begin")
    more = replace(config, epochs=9, resume=True)
    result = launch(train, more, nproc=1, name="go-on")
    progress = json.loads((config.output / "checkpoints/step-00000128/progress.json").read_text())
    assert (result.steps, result.best_step) == (4 * 32, 32)
    assert progress["lr_ratio"] == 0.5**3


def test_a_dropped_rate_reaches_tables_and_dense_layers(tmp_path):
    """After a drop by 1e-9 nothing moves any more, so all later scores are the same."""
    config = make_run(
        tmp_path,
        epochs=8,
        patience=8,
        optimizer=OptimizerConfig(sparse_lr=0.5, dense_lr=0.05, plateau_factor=1e-9),
    )
    launch(train, config, nproc=1, name="drop")
    scores = [line["auc"] for line in lines_of(config, "validation")]
    worse = next(i for i in range(1, len(scores)) if scores[i] <= max(scores[:i]))
    assert worse < len(scores) - 1
    assert scores[worse:] == pytest.approx([scores[worse]] * (len(scores) - worse), abs=1e-6)


def test_the_best_checkpoint_outlives_the_newer_ones(tmp_path):
    config = make_run(
        tmp_path,
        epochs=8,
        patience=8,
        keep_checkpoints=1,
        optimizer=OptimizerConfig(sparse_lr=0.5, dense_lr=0.05, plateau_patience=99),
    )
    result = launch(train, config, nproc=1, name="best")
    scores = {line["step"]: line["auc"] for line in lines_of(config, "validation")}
    kept = sorted(path.name for path in (config.output / "checkpoints").glob("step-*"))
    assert result.best_step == max(scores, key=scores.__getitem__) < result.steps
    assert kept == [f"step-{result.best_step:08d}", f"step-{result.steps:08d}"]


@pytest.mark.dist
def test_evaluate_gives_the_scores_of_the_run_on_any_number_of_ranks(tmp_path):
    config = make_run(tmp_path)
    result = launch(train, config, nproc=1, name="train")
    for nproc in (1, 2):
        again = launch(evaluate_run, EvaluateConfig(run=config.output), nproc=nproc, name="again")
        assert again.scores == pytest.approx(result.scores, abs=1e-6)


def test_a_run_records_what_it_was(tmp_path):
    config = make_run(tmp_path, max_steps=3)
    assert launch(train, config, nproc=1, name="record").best_step == 3
    record = RunFolder(config.output).read_run()
    assert record["planned_steps"] == 3
    assert RunFolder(config.output).read_config() == config
    assert record["versions"]["torchrec"] == "1.8.0"
    assert len(record["data_sha256"]) == 64
    assert record["git_commit"] is None or len(record["git_commit"]) >= 40
    assert (config.output / "sizing.json").read_bytes() == config.sizing.read_bytes()
    placed = json.loads((config.output / "sharding.json").read_text())
    assert {table["name"] for table in placed["placement"]["tables"]} == {
        "C1",
        "C2",
        "C3/0",
        "C3/1",
        "C4",
    }


def test_bf16_learns_as_fp32_does(tmp_path):
    config = make_run(tmp_path, epochs=3)
    fp32 = launch(train, config, nproc=1, name="fp32")
    bf16 = replace(config, precision="bf16", output=tmp_path / "bf16")
    found = launch(train, bf16, nproc=1, name="bf16")
    assert found.scores["auc"] == pytest.approx(fp32.scores["auc"], abs=0.01)
    assert found.scores != fp32.scores


def test_a_plan_for_other_data_is_refused(tmp_path):
    config = make_run(tmp_path)
    write_dataset(tmp_path / "other", num_embeddings=(40, 9, 300, 500))
    with pytest.raises(ValueError, match="field C2: sizing has 7 rows, dataset has 9"):
        launch(train, replace(config, data=tmp_path / "other"), nproc=1, name="other")


def test_an_optimizer_that_breaks_the_budget_is_refused(tmp_path):
    config = make_run(tmp_path, optimizer=OptimizerConfig(sparse="adagrad"))
    write_sizing(replace(read_sizing(config.sizing), budget_bytes=45_000), config.sizing)
    with pytest.raises(ValueError, match="bytes under adagrad, its budget of 45,000 bytes"):
        launch(train, config, nproc=1, name="budget")
    wider_by_hand = replace(read_sizing(config.sizing), optimizer="adagrad")
    wider_by_hand.check_budget("adagrad")  # nothing was solved for another one


@pytest.mark.dist
def test_what_one_rank_refuses_the_command_refuses(tmp_path):
    config = make_run(tmp_path, network=MFNetwork())
    with pytest.raises(ValueError, match="mf multiplies two fields, the sizing plan has 4"):
        launch(train, config, nproc=2, name="refused")


def test_ranks_share_a_global_batch_evenly_or_say_which_they_could():
    config = TrainConfig(global_batch_size=12, batch_size=99)
    assert [shared_among(ranks, config).batch_size for ranks in (1, 2, 3)] == [12, 6, 4]
    assert shared_among(5, TrainConfig(batch_size=7)).batch_size == 7
    with pytest.raises(ValueError, match=r"global_batch_size=12 on 5 ranks, .*; try 15"):
        shared_among(5, config)


@pytest.mark.dist
def test_a_plan_made_beforehand_is_the_plan_of_the_run(tmp_path):
    config = make_run(tmp_path, max_steps=3, plan=tmp_path / "sharding.json")
    kinds = ["--types", "row_wise"]
    assert (
        plan_main(
            [
                *("--sizing", str(config.sizing), "--ranks", "2", "--output", str(config.plan)),
                *kinds,
            ]
        )
        == 0
    )
    launch(train, config, nproc=2, name="planned")
    used = read_sharding(config.output / "sharding.json")
    assert used == read_sharding(config.plan)
    assert {table.sharding_type for table in used.tables} == {"row_wise"}
    with pytest.raises(ValueError, match="places tables on 2 ranks, this job has 1"):
        launch(train, replace(config, output=tmp_path / "one"), nproc=1, name="one")


def test_a_step_is_validated_once_even_where_an_epoch_ends(tmp_path):
    config = make_run(tmp_path, epochs=3, patience=1, batch_size=125, validate_every=32)
    result = launch(train, config, nproc=1, name="once")
    assert [line["step"] for line in lines_of(config, "validation")] == [32, 64, 96]
    assert result.steps == 96


def test_predictions_do_not_depend_on_the_mean_label_of_the_data_evaluated(tmp_path):
    config = make_run(tmp_path)
    result = launch(train, config, nproc=1, name="train")
    info = read_dataset_info(config.data)
    train_split = replace(info.splits["train"], label_mean=0.05)
    write_dataset_info(replace(info, splits={**info.splits, "train": train_split}), config.data)
    again = launch(evaluate_run, EvaluateConfig(run=config.output), nproc=1, name="again")
    assert again.scores == result.scores


def test_validation_labels_of_one_kind_are_judged_by_log_loss(tmp_path):
    config = make_run(tmp_path, epochs=2)

    def all_clicked(rows: pa.Table) -> pa.Table:
        return rows.set_column(0, rows.schema.field(0), pa.array(np.ones(len(rows), np.float32)))

    rewrite(config.data, all_clicked, "validation")
    result = launch(train, config, nproc=1, name="ones")
    assert result.best_step > 0
    assert [line["auc"] for line in lines_of(config, "validation")] == [None, None]
