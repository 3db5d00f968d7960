"""What holds for every search: budget, files, cost, and a kill that changes nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.sizing import Serving, parse_budget, plan_bytes, uniform_bytes
from service.data.dataset import read_dataset_info
from service.run_folder import RunFolder
from service.search.methods import METHODS, SERVED
from service.search.record import read_record
from service.sizing import read_sizing
from service.train.report import Reporter
from tests.service.search.searches import DIM, make_search, run, within
from tests.service.warm_runs import make_data

BUDGET = "3x"
TRAIN_NOTHING = {"hash", "quotient-remainder", "dpq", "mgqe"}
"""Methods whose plan follows from the budget alone; there is only its training."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("searches")
    make_data(path / "data")
    return path


@pytest.fixture(scope="module", params=METHODS)
def done(request: pytest.FixtureRequest, folder: Path):
    """Every search under a budget, to its end."""
    config = make_search(folder, request.param, budget=BUDGET)
    return config, run(config)


def test_the_plan_stays_within_the_budget(done):
    config, record = done
    sizing = read_sizing(config.train.output / "sizing.json")
    stats = read_dataset_info(config.train.data).field_stats
    is_served = config.method.kind in SERVED
    serving = Serving() if is_served else None
    limit = parse_budget(BUDGET, uniform_bytes(stats, DIM, "adagrad", serving))
    bounded = record.figures["serving_bytes" if is_served else "training_bytes"]
    assert bounded <= limit == record.budget_bytes
    assert sizing.out_dim == DIM
    if record.embeddings["kind"] == "mixed":
        plan = replace(sizing.plan, join=config.train.network.join)
        assert record.figures["training_bytes"] == plan_bytes(plan, "adagrad").training_bytes
        assert (sizing.budget, sizing.budget_bytes) == (BUDGET, limit)
    else:
        trained = RunFolder(config.train.output / "stages" / "retrain").read_run()
        assert record.figures["training_bytes"] == trained["training_bytes"]["planned"]
        assert sum(trained["training_bytes"]["tables_by_rank"]) <= record.figures["training_bytes"]


def test_the_record_says_what_was_found_and_what_it_cost(done):
    config, record = done
    assert read_record(config.train.output) == record
    assert record.status == "done"
    assert (
        set(record.test)
        == set(record.validation)
        == {"auc", "log_loss", "ne", "num_rows"}
        | (set(record.test) - {"auc", "log_loss", "ne", "num_rows"})
    )
    own = [s for s in record.stages if s["folder"] != Path(record.run).name]
    own = [stage for stage in own if stage["name"] != "export"]
    assert len(own) == len(record.stages) - 1 - bool(record.stages[-1]["name"] == "export")
    assert record.cost["examples"] == sum(stage["examples"] for stage in own)
    searches_by_training = config.method.kind not in TRAIN_NOTHING
    assert bool(record.cost["examples"]) == bool(record.cost["seconds"]) == searches_by_training
    assert all(stage["peak_memory_bytes"] > 1 << 20 for stage in record.stages)


def steps_of(config, stage: str) -> int:
    """Steps of a stage's training; 0 of a measurement."""
    path = config.train.output / "stages" / stage / "result.json"
    return json.loads(path.read_text())["steps"] if path.is_file() else 0


class Killed(BaseException):
    """Nothing catches it: what was not written by then is lost."""


def test_a_killed_search_finds_what_an_undisturbed_one_finds(done, tmp_path, monkeypatch):
    calm, record = done
    config = within(calm, output=tmp_path / "killed")
    steps = [steps_of(calm, stage["name"]) for stage in record.stages]
    fatal = steps[0] + 13 if max(steps[1:], default=0) > 13 else 13  # in the midst of a training

    class Mortal(Reporter):
        num_steps = 0

        def end_step(self, progress, loss, loader):
            super().end_step(progress, loss, loader)
            Mortal.num_steps += 1
            if Mortal.num_steps == fatal:
                raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("service.train.loop.Reporter", Mortal)
        run(config)
    assert read_record(config.train.output).status == "running"
    again = run(within(config, resume=True))
    # Of a controller every logit: the same seed gives the same digits, killed or not.
    for part in ("widths", "values", "notes", "test", "validation"):
        assert getattr(again, part) == getattr(record, part), part
    assert [s["examples"] for s in again.stages] == [s["examples"] for s in record.stages]
    sizing = [json.loads((c.train.output / "sizing.json").read_text()) for c in (calm, config)]
    assert sizing[0]["fields"] == sizing[1]["fields"]


def test_a_finished_search_trains_nothing_when_it_is_asked_again(done, monkeypatch):
    config, record = done
    monkeypatch.setattr("service.search.stage.train_stage", None)
    monkeypatch.setattr("service.search.run.git_commit", lambda: "of whoever asks again")
    assert run(within(config, resume=True)) == record


@pytest.mark.dist
@pytest.mark.slow
def test_two_ranks_find_the_plan_of_one(done, tmp_path):
    config, record = done
    two = run(within(config, output=tmp_path / "two", nproc=2, batch_size=64))
    assert two.widths == record.widths
    assert two.test["auc"] == pytest.approx(record.test["auc"], abs=1e-4)
