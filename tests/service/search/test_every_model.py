"""Every search with every network, a few steps of each."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.networks import NETWORKS as KINDS
from models.networks import PAIRWISE
from service.search.methods import METHODS
from tests.service.search.searches import DIM, make_search, run, within
from tests.service.warm_runs import NETWORKS, make_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ratings")
    make_data(path / "data", rating=True)
    return path


def test_there_is_a_small_network_of_every_kind():
    assert {name: type(network) for name, network in NETWORKS.items()} == dict(KINDS)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(
            method, name, marks=() if (method, name) == ("sseds", "mf") else pytest.mark.slow
        )
        for method in METHODS
        for name in NETWORKS
        if name != "deepfm"  # which the other tests search with
    ],
)
def test_it_ends_in_a_plan_within_the_budget(method, name, folder, tmp_path):
    config = replace(make_search(folder, method), budget="2x")
    if name in PAIRWISE:
        config = replace(config, fields=("C1", "C3"))
    record = run(within(config, network=NETWORKS[name], output=tmp_path, max_steps=3, epochs=1))
    assert record.widths.keys() <= set(config.fields or record.widths)
    assert max(max(widths) for widths in record.widths.values()) <= DIM
    bounds = [record.figures[f"{which}_bytes"] for which in ("training", "serving")]
    assert record.budget_bytes is not None and min(bounds) <= record.budget_bytes
    assert record.test["num_rows"]
