"""Dropout in trainings: every network that has it, through TorchRec's pipeline."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.networks import (
    PAIRWISE,
    CollabNNNetwork,
    DCNv2Network,
    DeepFMNetwork,
    DLRMNetwork,
    NCFNetwork,
    WideDeepNetwork,
)
from models.turn import Turn
from service.run_folder import RESULT_FILE
from tests.service.warm_runs import make_config, make_data, trained, uniform

NETWORKS = {
    "dlrm": DLRMNetwork(bottom=(8,), top=(8,)),
    "dcnv2": DCNv2Network(hidden=(8,)),
    "deepfm": DeepFMNetwork(hidden=(8, 8)),
    "wide_deep": WideDeepNetwork(hidden=(8,)),
    "ncf": NCFNetwork(hidden=(8,)),
    "collabnn": CollabNNNetwork(num_hidden=8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ratings")
    make_data(path / "data", rating=True)
    return path


@pytest.mark.parametrize("name", NETWORKS)
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
