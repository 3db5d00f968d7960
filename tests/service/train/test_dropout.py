"""Dropout in trainings: every network that has it, through TorchRec's pipeline."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.networks import PAIRWISE
from models.turn import Turn
from service.run_folder import RESULT_FILE
from tests.service.warm_runs import NETWORKS, make_config, make_data, trained, uniform

WITH_DROPOUT = [name for name, network in NETWORKS.items() if hasattr(network, "dropout")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ratings")
    make_data(path / "data", rating=True)
    return path


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_every_mlp_trains_with_it_and_learns_otherwise(name, folder, monkeypatch):
    steps, seed_of = [], Turn.seed_of
    monkeypatch.setattr(
        Turn, "seed_of", lambda turn, *place: steps.append(turn.step) or seed_of(turn, *place)
    )
    fields = ("C1", "C3") if name in PAIRWISE else tuple(uniform(8))
    sizes = {field: uniform(8)[field] for field in fields}
    losses = []
    for share in (0.0, 0.2):
        network = replace(NETWORKS[name], dropout=share)
        config = make_config(folder, f"{name}-{share}", sizes, 8, network=network)
        trained(replace(config, epochs=1, max_steps=4))
        result = json.loads((config.output / RESULT_FILE).read_text())
        losses.append(result["scores"]["mse"])
    assert losses[0] != losses[1]
    assert {*steps} >= {0, 1, 2, 3}, "every step has noise of its own"
