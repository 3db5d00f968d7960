"""AutoEmb on real runs: who learns when, on any ranks, and the groups of the hard step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.embeddings.choice import Alternation
from models.search.choices import AutoEmbChoice
from models.sizing.blocks import equipartition
from service.data.dataset import read_dataset_info
from service.data.lookups import lookups_per_id
from service.sizing import read_sizing
from tests.service.search.searches import make_search, run, within
from tests.service.train.turn_runs import ODD_ROWS, learned_on_one_and_two_ranks, search_each
from tests.service.train.turn_runs import make_search as make_turns
from tests.service.warm_runs import make_data

EMBEDDINGS = AutoEmbChoice(candidates=(2, 8, 16), alternation=Alternation(weight_steps=3, lr=0.05))
CONTROLLER = "network.embeddings.controller."


def is_controllers(name: str) -> bool:
    return name.removeprefix("model.").startswith(CONTROLLER)


@pytest.mark.parametrize(
    "case", [("table_wise", "rowwise_adagrad"), ("row_wise", "adagrad"), ("data_parallel", "adam")]
)
def test_the_controllers_steps_change_no_weight_and_no_state(case, tmp_path):
    (seen,) = search_each(make_turns(tmp_path, embeddings=EMBEDDINGS), [case], 6)
    assert [turn.moves_weights for turn, _ in seen.changed] == 2 * [True, True, True, False]
    tables = {name for name in seen.names if ".embedding_bags." in name and ": " not in name}
    for turn, changed in seen.changed:
        if turn.moves_weights:
            assert not any(map(is_controllers, changed))
            assert tables <= set(changed)
        else:
            assert changed
            assert all(map(is_controllers, changed)), changed


@pytest.mark.dist
@pytest.mark.slow
def test_two_ranks_learn_as_one_does(tmp_path):
    weights = learned_on_one_and_two_ranks(
        make_turns(tmp_path, embeddings=EMBEDDINGS, rows=ODD_ROWS, epochs=2, patience=9)
    )
    assert np.abs(weights[f"model.{CONTROLLER}outer"]).max() > 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("autoemb")
    make_data(path / "data")
    return path


def test_groups_get_the_width_with_the_largest_share(folder, tmp_path):
    options = {"candidates": (2, 4), "groups": 3, "lr": 0.02}
    config = within(make_search(folder, "autoemb", options), output=tmp_path / "found", epochs=1)
    record = run(config)
    assert [stage["name"] for stage in record.stages] == ["super-net", "controllers", "retrain"]
    fields = read_sizing(tmp_path / "found" / "sizing.json").fields
    curves = {
        own.name: own.frequency_curve for own in read_dataset_info(folder / "data").field_stats
    }
    for name, shares in record.notes["shares"].items():
        assert np.sum(shares, axis=1) == pytest.approx(1)
        assert len(np.unique(np.round(shares, 9), axis=0)) > 1  # ids of a field choose apart
        counts = lookups_per_id(folder / "data", name)
        runs = np.searchsorted([rank for rank, _ in curves[name]], np.arange(len(counts)), "right")
        worth = counts[:, None] * np.array(shares)[runs]  # (ids, widths)
        starts = equipartition(counts, min(3, len(counts)))
        groups = np.searchsorted(starts, np.arange(len(counts)), "right")
        expected = [int((2, 4, 8)[worth[groups == group].sum(0).argmax()]) for group in groups]
        widths = [
            width for block in fields[name] for width in [block.embedding_dim] * block.num_ids
        ]
        assert widths == expected, name


def test_groups_are_looked_up_equally_often(folder, tmp_path):
    options = {"groups": 2, "lr": 0.2, "candidates": (1, 2)}
    config = within(make_search(folder, "autoemb", options), output=tmp_path / "found", epochs=1)
    record = run(replace(config, budget="6x", retrain=False))
    sizing = read_sizing(tmp_path / "found" / "sizing.json")
    cut = {name: blocks for name, blocks in sizing.fields.items() if len(blocks) > 1}
    assert record.figures["training_bytes"] <= record.budget_bytes
    for name, (head, _) in cut.items():
        counts = lookups_per_id(folder / "data", name)
        half = counts.sum() / 2
        assert counts[: head.num_ids - 1].sum() < half <= counts[: head.num_ids].sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, "groups=0, expected at least 1"),
        ({"epochs": -1}, "epochs=-1, expected 0 or more"),
        ({"lr": 0.0}, "lr=0.0, expected a positive number"),
        ({"candidates": (3, 8)}, r"candidates=\(3, 8\), expected 1 or more rising widths"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, folder):
    with pytest.raises(ValueError, match=message):
        make_search(folder, "autoemb", options)


def test_groups_whose_widths_cannot_be_gone_through_are_refused_before_anything_is_trained(folder):
    config = make_search(folder, "autoemb", {"groups": 10_000})
    with pytest.raises(ValueError, match=r"groups=10000, expected at most \d+ with \d+ widths"):
        run(config)
    assert not list(config.train.output.glob("stages/*"))
