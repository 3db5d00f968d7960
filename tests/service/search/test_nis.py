"""NIS on real runs: who learns when and from what, on any ranks, and the plan of the controller."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.embeddings.choice import Alternation
from models.search.choices import NISChoice
from models.tables import Block, PlanError
from service.sizing import read_sizing, write_sizing
from tests.service.search.searches import make_search, run, within
from tests.service.train.turn_runs import ODD_ROWS, learned_on_one_and_two_ranks, search_each
from tests.service.train.turn_runs import make_search as make_turns
from tests.service.warm_runs import make_data

EMBEDDINGS = NISChoice(budget_ratio=0.3, alternation=Alternation(weight_steps=3, lr=0.05))
CONTROLLER = "network.embeddings.controller."


def make_blocks(folder: Path, **changes: object):
    """A run of NIS's super-net, its fields cut into one to three runs of rows."""
    config = make_turns(folder, embeddings=EMBEDDINGS, **changes)
    sizing = read_sizing(config.sizing)
    cuts = ((40,), (3, 4), (30, 120, 150), (50, 450))
    fields = {
        name: tuple(Block(num_embeddings=n, embedding_dim=16, asked_dim=16) for n in own)
        for name, own in zip(sizing.fields, cuts, strict=True)
    }
    write_sizing(replace(sizing, fields=fields), config.sizing)
    return config


def is_controllers(name: str) -> bool:
    return name.removeprefix("model.").startswith(CONTROLLER)


@pytest.mark.parametrize(
    "case", [("table_wise", "rowwise_adagrad"), ("row_wise", "adagrad"), ("data_parallel", "adam")]
)
def test_the_controllers_steps_change_no_weight_and_no_state(case, tmp_path):
    (seen,) = search_each(make_blocks(tmp_path), [case], 6)
    assert [turn.moves_weights for turn, _ in seen.changed] == 2 * [True, True, True, False]
    for turn, changed in seen.changed:
        if turn.moves_weights:
            assert not any(map(is_controllers, changed))
            assert any(".embedding_bags." in name for name in changed)
        else:
            assert all(map(is_controllers, changed)), changed
            assert any(name.endswith("num_rewards") for name in changed)
    assert any("theta" in name for name in seen.changed[-1][1])


@pytest.mark.dist
@pytest.mark.slow
def test_two_ranks_learn_as_one_does(tmp_path):
    weights = learned_on_one_and_two_ranks(
        make_blocks(tmp_path, rows=ODD_ROWS, epochs=2, patience=9)
    )
    assert np.abs(weights[f"model.{CONTROLLER}theta"]).max() > 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nis")
    make_data(path / "data")
    return path


@pytest.mark.parametrize("sizes", ["single", "multi"])
def test_the_likeliest_choice_is_trained_where_there_is_no_budget(sizes, folder, tmp_path):
    options = {"sizes": sizes, "row_shares": (0.5, 1.0), "column_blocks": 2, "lr": 0.2}
    config = within(make_search(folder, "nis", options), output=tmp_path / "found", epochs=1)
    record = run(config)
    assert [stage["name"] for stage in record.stages] == ["super-net", "controller", "retrain"]
    blocks = read_sizing(tmp_path / "found" / "sizing.json").fields
    for name, theta in record.notes["theta"].items():
        likeliest = np.argmax(theta, axis=1)
        half, whole = record.notes["row_ends"][name]
        if sizes == "single":
            corner = ((whole, 8), (whole, 4), (half, 8), (half, 4), (0, 0))[likeliest[0]]
            shown = [corner[1] * (corner[0] > start) for start in (0, half)]
        else:
            shown = [sum(4 for option in likeliest if option < 2 - run) for run in range(2)]
        own = [(block.embedding_dim, block.num_ids) for block in blocks[name]]
        expected = [(width, rows) for width, rows in zip(shown, (half, whole - half), strict=True)]
        if shown[0] == shown[1]:
            expected = [(shown[0], whole)]
        found = [(0 if b.hashed_ids else w, n) for (w, n), b in zip(own, blocks[name], strict=True)]
        assert found == expected, name


def test_the_controller_learns_where_steps_are_limited(folder, tmp_path):
    config = make_search(folder, "nis", {"row_shares": (0.5, 1.0), "column_blocks": 2})
    config = within(config, output=tmp_path / "found", epochs=40, max_steps=6)
    theta = run(replace(config, retrain=False)).notes["theta"]
    assert all(np.any(logits) for logits in theta.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row_shares": (0.5, 0.2)}, "row_shares=.*expected rising shares"),
        ({"row_shares": (0.5, 1.5)}, "row_shares=.*expected rising shares"),
        ({"warm_up": 1.0}, r"warm_up=1.0, expected in \[0, 1\)"),
        ({"lr": 0.0}, "lr=0.0, expected a positive number"),
        ({"column_blocks": 3}, "8 columns cannot be cut into 3 blocks"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, folder, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(within(make_search(folder, "nis", options), output=tmp_path / "found"))


@pytest.mark.parametrize(("asked", "kept"), [("plateau", "constant"), ("cosine", "cosine")])
def test_no_validation_slows_down_what_is_still_open(asked, kept, folder, tmp_path):
    config = make_search(folder, "nis", retrain=False)
    optimizer = replace(config.train.optimizer, schedule=asked)
    run(within(config, output=tmp_path, optimizer=optimizer, epochs=1))
    used = json.loads((tmp_path / "stages" / "super-net" / "run.json").read_text())["config"]
    assert used["optimizer"]["schedule"] == kept


def test_a_budget_that_nothing_fits_is_refused_before_anything_is_trained(folder, tmp_path):
    config = make_search(folder, "nis", budget="100")
    with pytest.raises(PlanError, match=r"budget of 100 bytes is too small"):
        run(within(config, output=tmp_path / "found"))
    assert not (tmp_path / "found").exists()


def test_a_controller_that_has_not_moved_is_named(folder, tmp_path, monkeypatch):
    warned = []
    monkeypatch.setattr("service.search.methods.nis.logger.warning", warned.append)
    config = make_search(folder, "nis", budget="2x", retrain=False)
    run(within(config, output=tmp_path / "moved", epochs=1))
    assert not warned
    run(within(config, output=tmp_path / "still", epochs=1, max_steps=1))
    assert [said.split(",")[0] for said in warned] == ["the controller has made no step"]
