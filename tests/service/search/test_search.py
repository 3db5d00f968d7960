"""What a search refuses, and how random widths are drawn and chosen."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.tables import PlanError
from service.__main__ import main
from service.run_folder import RunFolder
from service.search.run import search
from service.search.shared import SharedStages
from tests.datasets import write_dataset
from tests.service.search.searches import DIM, make_search, run, within
from tests.service.warm_runs import make_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("searches")
    make_data(path / "data")
    return path


def test_data_without_validation_examples_are_refused_before_anything_is_trained(tmp_path):
    write_dataset(tmp_path / "data", rows={"train": 64, "validation": 0, "test": 8})
    with pytest.raises(ValueError, match="data has no validation examples, and spectral judges"):
        run(make_search(tmp_path, "spectral"))
    assert not list(tmp_path.rglob("search.json"))


def test_a_base_that_cannot_stop_early_is_said_to_be_one(tmp_path, caplog):
    write_dataset(tmp_path / "data", rows={"train": 256, "validation": 0, "test": 8})
    config = within(make_search(tmp_path, "sseds"), output=tmp_path / "found", max_steps=2)
    assert run(config).status == "done"
    assert "data has no validation examples: the base trains all of its epochs" in caplog.text


def test_the_best_trial_on_validation_is_taken_and_not_trained_again(folder, tmp_path):
    options = {"candidates": (1, 2, 4, 8), "trials": 4}
    config = within(make_search(folder, "random", options), output=tmp_path / "found")
    record = run(within(config, epochs=1, max_steps=4))
    assert [stage["name"] for stage in record.stages] == [f"trial-{i}" for i in range(4)]
    assert record.validation["auc"] == max(s["validation"]["auc"] for s in record.stages)
    best = max(record.stages, key=lambda stage: stage["validation"]["auc"])
    assert record.test == best["test"]


@pytest.mark.parametrize(("examples", "trials"), [(1, 1), (1535, 2), (1536, 3)])
def test_trials_stop_before_they_outspend_their_examples(examples, trials, folder, tmp_path):
    options = {"candidates": (1, 2, 4, 8), "examples": examples}
    config = within(make_search(folder, "random", options), output=tmp_path / "found")
    record = run(within(config, max_steps=4))
    assert len(record.stages) == trials


def test_a_search_of_other_options_is_not_gone_on_with(folder, tmp_path):
    config = within(make_search(folder, "random"), output=tmp_path / "found", max_steps=2)
    run(config)
    with pytest.raises(ValueError, match=r"train\.epochs was 2 and is 3"):
        run(within(config, resume=True, epochs=3))
    with pytest.raises(ValueError, match="not empty; give --resume to go on"):
        run(config)
    with pytest.raises(ValueError, match=r"train\.nproc was 1 and is 2"):
        run(within(config, resume=True, nproc=2))  # twice the examples a step
    assert run(within(config, overwrite=True, epochs=3)).status == "done"


@pytest.mark.parametrize("shared", [None, "shared"])
def test_a_search_that_was_killed_in_its_first_training_goes_on(
    shared, folder, tmp_path, monkeypatch
):
    def kill(*_: Any) -> Any:
        raise KeyboardInterrupt

    config = within(make_search(folder, "sseds"), output=tmp_path / "found", max_steps=20)
    where = None if shared is None else SharedStages(folder=tmp_path / shared, locks=tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("service.search.search.train_stage", kill)
        search(config, lambda stage: None, where)
    with pytest.raises(ValueError, match="not empty; give --resume to go on"):
        search(config, lambda stage: None, where)
    assert search(within(config, resume=True), lambda stage: None, where).status == "done"


def test_a_search_goes_on_where_its_dataset_has_moved_to(folder, tmp_path, monkeypatch):
    def kill(*_: Any) -> Any:
        raise KeyboardInterrupt

    shutil.copytree(folder / "data", tmp_path / "data")
    config = within(make_search(tmp_path, "sseds"), max_steps=4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("service.search.methods.sseds.SSEDS._gradient", kill)
        run(config)
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = within(config, data=tmp_path / "moved", resume=True)
    undisturbed = within(make_search(folder, "sseds"), output=tmp_path / "other", max_steps=4)
    assert run(moved).test == run(undisturbed).test
    file = tmp_path / "moved" / "dataset.json"
    file.write_text(f"{file.read_text()}\n")
    with pytest.raises(ValueError, match="is not the dataset that"):
        run(moved)


def test_a_finished_search_keeps_its_scores_whatever_its_record_did_not_know(folder, tmp_path):
    config = within(make_search(folder, "hash"), output=tmp_path / "found", max_steps=2)
    record, file = run(config), tmp_path / "found" / "search.json"
    content = json.loads(file.read_text())
    del content["asked"]["train"]["nproc"]  # as earlier versions wrote it
    file.write_text(json.dumps(content))
    again = run(replace(within(config, resume=True), retrain=False))
    assert (again.status, again.test, again.run) == ("done", record.test, record.run)
    file.write_text(json.dumps(content)[:-1])
    with pytest.raises(ValueError, match=r"search\.json: .* or search anew"):
        run(within(config, resume=True))
    assert run(within(config, overwrite=True)).test == record.test


def test_the_record_of_a_finished_search_outlives_all_that_lies_beside_it(folder, tmp_path):
    config = within(make_search(folder, "hash"), output=tmp_path / "found", max_steps=2)
    record = run(config)
    for name in ("plans", "stages"):
        shutil.rmtree(tmp_path / "found" / name)
    (tmp_path / "found" / "sizing.json").rename(tmp_path / "mine.json")
    with pytest.raises(ValueError, match="not empty; give --resume to go on"):
        run(config)
    assert run(within(config, resume=True)).test == record.test


def test_two_searches_never_write_into_one_folder(folder, tmp_path):
    config = within(make_search(folder, "hash"), output=tmp_path / "found")
    with (
        RunFolder(tmp_path / "found").held(),
        pytest.raises(ValueError, match="another training writes into"),
    ):
        run(config)


def test_settings_that_a_search_makes_itself_are_refused(folder):
    with pytest.raises(ValueError, match="a search sets it for every training itself"):
        within(make_search(folder, "random"), warm_start=folder)


def test_a_budget_that_nothing_fits_is_told_how_much_would(folder, tmp_path):
    config = within(make_search(folder, "random", budget="100"), output=tmp_path / "found")
    for _ in range(2):  # what was refused is in nobody's way
        with pytest.raises(PlanError, match=r"100 bytes is too small.*give --budget"):
            run(config)


@pytest.mark.parametrize("method", ["autodim", "autodim-s", "autoemb"])
def test_tables_too_narrow_for_any_choice_are_told_what_to_give(method, folder, tmp_path):
    config = within(make_search(folder, method, {}, dim=2), output=tmp_path / "found")
    with pytest.raises(ValueError, match=r"--dim 2 leaves of the candidates .* give --method"):
        run(config)
    with pytest.raises(ValueError, match=r"--dim 1 leaves .* no other; give --dim 4, or a wider"):
        run(replace(config, dim=1))


@pytest.mark.parametrize(
    "method", ["autodim", "autoemb", "optembed", "spectral", "prune-regrow", "sseds"]
)
def test_a_budget_that_nothing_fits_is_refused_before_anything_is_trained(method, folder, tmp_path):
    config = make_search(folder, method, {}, budget="64")
    with pytest.raises(PlanError, match=r"give --budget \d+(, a narrower --dim, or fewer|$)"):
        run(within(config, output=tmp_path / "found"))
    assert not list((tmp_path / "found").glob("[!.]*"))


def test_fields_of_fewer_ids_than_blocks_are_cut_into_fewer(folder, tmp_path):
    config = make_search(folder, "spectral", {"block_rows": 1, "blocks": 8, "start": "fresh"})
    record = run(replace(within(config, output=tmp_path / "found", max_steps=2), retrain=False))
    num_blocks = {name: len(widths) for name, widths in record.widths.items()}
    assert num_blocks == {"C1": 8, "C2": 7, "C3": 8, "C4": 8}  # C2 has 7 ids


def test_candidates_wider_than_the_model_are_refused(folder, tmp_path):
    config = make_search(folder, "random", {"candidates": (16, 32)}, dim=DIM)
    with pytest.raises(ValueError, match="all wider than --dim 8; give --dim 32"):
        run(within(config, output=tmp_path / "found"))


def test_the_help_names_every_method_and_its_flags(capsys):
    for asked in (["search", "--help"], ["search", "-h"]):
        assert main(asked) == 0
        assert "random" in capsys.readouterr().out
    assert main(["-h"]) == 0
    with pytest.raises(SystemExit):
        main(["search", "random", "-h"])
    with pytest.raises(SystemExit):
        main(["search", "random", "deepfm", "--help"])
    assert "--method.trials" in capsys.readouterr().out


def test_an_unknown_method_is_refused_by_name(capsys):
    assert main(["search", "sseds2", "deepfm"]) == 2
    assert "'sseds2' is not a search; searches: random" in capsys.readouterr().err


def test_the_command_prints_what_was_found(folder, tmp_path, capsys):
    flags = ["--data", str(folder / "data"), "--output", str(tmp_path / "found"), "--dim", "8"]
    flags += ["--max-steps", "2", "--matmul", "mkl", "--method.trials", "1", "--budget", "none"]
    assert main(["search", "random", "fm", *flags]) == 0
    printed = capsys.readouterr()
    assert "training bytes" in printed.out
    assert "trial-0: " in printed.err
    model = tmp_path / "found" / "stages" / "trial-0"
    assert f"the model is in {model}: mixdim evaluate {model}" in printed.err
    assert main(["search", "random", "fm", *flags, "--resume"]) == 0
    assert re.search(r"search cost +[\d,]+ examples", capsys.readouterr().out)
    assert main(["evaluate", str(tmp_path / "found")]) == 2
    assert f"it holds a search, whose model is in {model}" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "holds no run.json; train with `mixdim train`" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--sizing=sizing.json", "--warm_start=run", "--sizing"])
def test_what_a_search_sets_itself_is_refused_with_the_value_of_the_default_too(flag, capsys):
    assert main(["search", "random", "fm", *flag.split("=")]) == 2
    name = flag.partition("=")[0].replace("_", "-")
    assert f"{name}: a search sets it for every training itself" in capsys.readouterr().err
