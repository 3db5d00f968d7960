"""Spectral searches: blocks and rows under one budget, and rounds that narrow step by step."""

from itertools import pairwise
from pathlib import Path

import pytest

from models.networks import WideDeepNetwork
from models.sizing import uniform_bytes
from service.data.dataset import read_dataset_info
from service.search.methods.prune_regrow import regrown
from service.sizing import read_sizing, sizing_bytes
from tests.service.search.searches import DIM, make_search, run, within
from tests.service.warm_runs import make_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("searches")
    make_data(path / "data")
    return path


@pytest.mark.parametrize(
    ("options", "num_tables"),
    [
        ({"blocks": 3, "block_rows": 100, "rows": "keep"}, {1, 3}),
        ({"blocks": 3, "block_rows": 301, "rows": "keep"}, {1}),
        ({"rows": "auto", "blocks": 2, "block_rows": 300, "start": "fresh"}, None),
    ],
)
def test_blocks_and_rows_share_the_budget_with_widths(options, num_tables, folder, tmp_path):
    config = make_search(folder, "spectral", options, budget="4x")
    record = run(within(config, output=tmp_path / "found", max_steps=20))
    assert record.figures["training_bytes"] <= record.budget_bytes
    found = {len(widths) for widths in record.widths.values()}
    assert num_tables is None or found == num_tables
    assert record.test["auc"] is not None


def test_rounds_go_from_uniform_to_the_budget_by_equal_factors(folder, tmp_path):
    config = make_search(folder, "prune-regrow", {"rounds": 2}, budget="4x")
    config = within(config, output=tmp_path / "found", max_steps=20)
    record = run(config)
    plans = [read_sizing(tmp_path / "found/plans" / f"round-{turn}.json") for turn in (1, 2)]
    stats = read_dataset_info(folder / "data").field_stats
    whole = uniform_bytes(stats, DIM, "adagrad")
    limits = [plan.budget_bytes for plan in plans]
    assert limits == [pytest.approx(whole / 2, rel=1e-3), pytest.approx(whole / 4, rel=1e-3)]
    sizes = [whole, *(sizing_bytes(plan).training_bytes for plan in plans)]
    assert all(wide > narrow for wide, narrow in pairwise(sizes))
    rounds = [stage["examples"] for stage in record.stages if stage["name"].startswith("round")]
    assert rounds == 2 * [20 // 4 * 128]


def test_what_a_narrow_table_has_left_out_is_worth_what_it_was():
    found = {"a": [3.0, 0.1, 0.1, 0.1], "b": [1.0, 1.0, 1.0, 1.0]}
    before = {"a": [9.0, 8.0, 0.5, 0.4], "b": [9.0, 9.0, 9.0, 9.0]}
    assert regrown(found, before, {"a": 1, "b": 4}) == {
        "a": [3.0, 8.0, 0.5, 0.4],
        "b": [1.0, 1.0, 1.0, 1.0],
    }


def test_what_a_concatenated_field_has_left_out_does_not_come_back():
    assert regrown({"a": [3.0, 0.1]}, {"a": [9.0, 8.0, 7.0, 6.0]}, {"a": 2}) == {"a": [3.0, 0.1]}


def test_rounds_of_concatenated_fields_never_ask_for_more_than_is_left(folder, tmp_path):
    config = make_search(folder, "prune-regrow", budget="4x")
    config = within(config, output=tmp_path / "found", network=WideDeepNetwork(hidden=(8,)))
    run(within(config, max_steps=20))
    narrowed = read_sizing(tmp_path / "found/plans/round-1.json").plan.dims()
    found = read_sizing(tmp_path / "found/sizing.json").plan.dims()
    assert all(width <= narrowed[name] for name, width in found.items())
    assert narrowed != dict.fromkeys(narrowed, DIM)


def test_options_out_of_range_are_refused_by_name(folder):
    for method, options, message in (
        ("spectral", {"blocks": 0}, "blocks=0, expected at least 1"),
        ("spectral", {"energy": 1.5}, "energy=1.5, expected in"),
        ("prune-regrow", {"rounds": 0}, "rounds=0, expected at least 1"),
        ("prune-regrow", {"share": 0.0}, r"share=0.0, expected in \(0, 1\]"),
        ("sseds", {"pairs": 0.0}, r"pairs=0.0, expected in \(0, 1\]"),
        ("sseds", {"examples": 0}, "examples=0, expected at least 1"),
        ("random", {"trials": 0}, "trials=0, expected at least 1"),
        ("random", {"candidates": (3,)}, "candidates=3, expected 1, 2 or a multiple of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            make_search(folder, method, options)
