"""Points, tables and the picture of a frontier whose numbers are worked out by hand."""

import csv
import io
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.compare.frontier import frontier
from service.compare.plot import draw
from service.compare.plot_frontier import budgets_of, bytes_text
from service.compare.plot_style import kept_between, spread, styles_of
from service.compare.spec import CompareSpec
from service.compare.tables import as_csv, as_json, as_markdown

SPEC = CompareSpec(
    recipes={"mf": {"preset": "mf"}}, sizings={"narrow": {}, "uniform": {}, "own": {}}
)
MSE = {  # by sizing and budget, then seed
    ("uniform", "uniform:4"): {0: 0.80, 1: 0.82, 2: 0.81},
    ("uniform", "uniform:8"): {0: 0.70, 1: 0.72, 2: 0.71},
    ("narrow", "uniform:4"): {0: 0.79, 1: 0.80, 2: 0.80},
    ("narrow", "uniform:8"): {0: 0.71, 1: 0.70},
    ("own", ""): {0: 0.6},
}
BYTES = {"uniform:4": 400, "uniform:8": 800, "": 10_000}


def recorded():
    """Cells and records of the numbers above; the seed that narrow lacks has failed."""
    cells, records = [], {"first": {"hash": "first", "status": "done", "seconds": 7.0}}
    for (sizing, budget), scores in MSE.items():
        runs = {str(seed): f"{sizing}{budget}{seed}" for seed in (0, 1, 2)}
        cells.append({"recipe": "mf", "sizing": sizing, "budget": budget, "runs": runs})
        for seed, digest in runs.items():
            mse = scores.get(int(seed))
            records[digest] = {
                "hash": digest,
                "status": "failed" if mse is None else "done",
                "widths": {"a": [4], "b": [8, 4]},
                "bytes": {"embedding_params": 9, "training_bytes": BYTES[budget]},
                "test": {"mse": mse, "num_rows": 100},
                "slices": {"a": {"head": {"num_rows": 60, "mse": mse}}},
                "seconds": 2.0,
                "needs": ["first"] if sizing == "narrow" else [],
            }
    return cells, records


def points():
    return frontier(SPEC, *recorded())


def test_points_come_in_the_order_of_the_spec_and_of_bytes():
    found = [(point.sizing, point.budget, point.score.n) for point in points()]
    assert found == [
        *(("narrow", "uniform:4", 3), ("narrow", "uniform:8", 2)),
        *(("uniform", "uniform:4", 3), ("uniform", "uniform:8", 3), ("own", "", 1)),
    ]


def test_differences_are_paired_by_seed_with_the_baseline_of_the_same_budget():
    at = {(point.sizing, point.budget): point for point in points()}
    difference = at["narrow", "uniform:4"].difference
    # -0.01, -0.02, -0.01, and 4.3027 is the t quantile of two degrees of freedom
    assert difference.mean == pytest.approx(-0.04 / 3)
    assert difference.half_width == pytest.approx(
        4.302652730 * np.std([1, 2, 1], ddof=1) / 173.2051
    )
    assert at["narrow", "uniform:8"].difference.n == 2, "the failed seed has no pair"
    assert at["uniform", "uniform:4"].difference is None
    assert at["own", ""].difference is None, "there is no equal budget"


@pytest.mark.parametrize(
    ("metric", "gain", "verdict"),
    [
        *(("mse", -0.1, "better"), ("mse", 0.1, "worse"), ("mse", 0.0, "")),
        *(("auc", 0.1, "better"), ("auc", -0.1, "worse")),
    ],
)
def test_the_verdict_knows_which_way_is_better(metric, gain, verdict):
    cells, records = recorded()
    for record in list(records.values())[1:]:
        shift = gain if record["hash"].startswith("narrow") else 0.0
        seed = int(record["hash"][-1])
        record |= {"status": "done", "test": {metric: 0.5 + shift + 0.01 * seed}}
        record["slices"] = {}
    found = frontier(SPEC, cells, records)
    assert found[0].verdict == verdict


def test_json_csv_and_markdown_say_the_same():
    found = points()
    content = json.loads(as_json(found))
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    markdown = as_markdown(SPEC, found, {"No plan fits": {"mf own 1": "too small"}})
    assert [float(row["mean"]) for row in rows] == pytest.approx(
        [point["scores"]["mse"]["mean"] for point in content]
    )
    assert all(f"{point['scores']['mse']['mean']:.5f}" in markdown for point in content)
    assert "-0.01333 [-0.02768, +0.00101]" in markdown
    assert content[-1]["scores"]["mse"]["sd"] is None, "one seed has no spread"
    assert "| mse of head (60 rows) |" in markdown
    assert "* mf own 1: too small" in markdown
    assert markdown.count("| 7.0 + 2.0 |") == 2, "the warm-up's time counts"


def test_names_that_markdown_reads_otherwise_stay_in_their_cell():
    cells, records = recorded()
    for cell in cells:
        cell["sizing"] = cell["sizing"].replace("narrow", "narrow | or\nnot")
    lines = as_markdown(SPEC, frontier(SPEC, cells, records), {}).splitlines()
    named = [line for line in lines if line.startswith("| narrow")]
    assert [line.split(" | ")[0] for line in named] == ["| narrow \\| or not"] * len(named)
    assert len(named) == 4, "two budgets, in two tables"


def test_log_loss_of_clicks_stands_beside_their_auc():
    cells, records = recorded()
    for record in list(records.values())[1:]:
        if record["status"] == "done":
            loss = record["test"]["mse"]
            record |= {"test": {"auc": 1 - loss, "log_loss": loss}, "slices": {}}
    found = frontier(SPEC, cells, records)
    expected = [f"{point.scores['log_loss'].mean:.5f}" for point in found]
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [f"{float(row['log_loss']):.5f}" for row in rows] == expected
    markdown = as_markdown(SPEC, found, {})
    assert "(higher is better) | log loss | seeds |" in markdown
    assert all(
        f"| {loss} | {p.score.n} |" in markdown for loss, p in zip(expected, found, strict=True)
    )
    only = frontier(replace(SPEC, metric="log_loss"), cells, records)
    assert "| log loss |" not in as_markdown(SPEC, only, {}), "once is enough"


def test_what_trained_longer_than_its_baseline_is_named():
    note = "Trained longer than uniform, by a warm-up: narrow."
    assert note in as_markdown(SPEC, points(), {})
    cells, records = recorded()
    for record in records.values():
        record["needs"] = ["first"]
    assert note not in as_markdown(SPEC, frontier(SPEC, cells, records), {})


def test_what_is_larger_than_its_baseline_is_named():
    cells, records = recorded()
    assert "Larger than" not in as_markdown(SPEC, frontier(SPEC, cells, records), {})
    for digest, record in records.items():
        if digest.startswith("narrowuniform:4"):
            record["bytes"] = {**record["bytes"], "training_bytes": 600}
    found = as_markdown(SPEC, frontier(SPEC, cells, records), {})
    assert "Larger than uniform at the same budget" in found
    assert "bytes: narrow uniform:4 (1.50 times)." in found


def test_budgets_stand_where_they_are_though_the_baseline_leaves_something_unspent(tmp_path):
    cells, records = recorded()
    marks = []
    for budget_bytes in (None, 1500):
        for cell in cells:
            cell["budget_bytes"] = budget_bytes if cell["budget"] == "uniform:8" else None
        found = frontier(SPEC, cells, records)
        marks.append(budgets_of(SPEC, found))
        draw(replace(SPEC, output=tmp_path), found)
    assert marks == [
        {"uniform:4": 400, "uniform:8": 800},
        {"uniform:4": 400, "uniform:8": 1500},
    ]


def test_an_unknown_metric_names_those_there_are():
    with pytest.raises(ValueError, match="metric='auc' is no score of these runs, which have mse"):
        frontier(replace(SPEC, metric="auc"), *recorded())


def test_a_plan_without_a_score_takes_no_other_along(tmp_path):
    cells, records = recorded()  # labels of one kind have no AUC
    for record in list(records.values())[1:]:
        auc = None if record["hash"].startswith("own") else record["test"]["mse"]
        record |= {"test": {"auc": auc, "num_rows": 100}, "slices": {}}
    found = frontier(SPEC, cells, records)
    assert [(p.sizing, p.score.n) for p in found if not p.score.n] == [("own", 0)]
    assert "| own | own | 4 8 4 | 9 | 10,000 |  | 0 |" in as_markdown(SPEC, found, {})
    nothing = {"mean": None, "sd": None, "half_width": None, "n": 0}
    assert json.loads(as_json(found))[-1]["scores"]["auc"] == nothing
    assert as_csv(found).splitlines()[-1].startswith("mf,own,,,9.0,10000.0,auc,,,,,0,")
    assert [path.name for path in draw(replace(SPEC, output=tmp_path), found)]
    assert not draw(replace(SPEC, output=tmp_path), found[-1:])


def test_runs_of_a_sizing_that_is_no_longer_asked_for_are_drawn_after_the_others(tmp_path):
    spec = replace(SPEC, sizings={"uniform": {}, "own": {}}, output=tmp_path)
    assert draw(spec, frontier(spec, *recorded()))
    assert list(styles_of(spec, ["narrow", "own"])) == ["narrow", "own"]
    assert len(set(styles_of(spec, ["narrow", "own"]).values())) == 2


def test_the_picture_names_every_sizing_and_is_the_same_each_time(tmp_path):
    spec = replace(SPEC, output=tmp_path)
    paths = draw(spec, points())
    assert [path.name for path in paths] == ["frontier-mf.png", "frontier-mf.svg"]
    first = paths[1].read_bytes()
    assert all(f">{name}<".encode() in first for name in ("narrow", "uniform", "own"))
    draw(spec, points())
    assert paths[1].read_bytes() == first


@given(st.lists(st.floats(0, 1), max_size=12))
def test_labels_never_overlap_and_stay_in_order(wanted):
    wanted = sorted(wanted)
    places = spread(wanted, 0.05)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(places))
    # Moving is no more than needed: all places together are as high as was wanted.
    assert sum(places) == pytest.approx(sum(wanted), abs=1e-9)


def test_labels_that_have_room_stay_where_they_are():
    assert spread([0.1, 0.3, 0.9], 0.05) == [0.1, 0.3, 0.9]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_of_a_crowded_picture_stay_on_it(wanted):
    places = kept_between(before := spread(sorted(wanted), 0.08), 0.08, -0.1, 1.04)
    assert all(b - a >= 0.08 - 1e-9 for a, b in pairwise(places))
    assert -0.1 - 1e-9 <= places[0] <= places[-1] <= 1.04 + 1e-9
    if before[0] >= -0.1 and before[-1] <= 1.04:
        assert places == pytest.approx(before)


def test_budgets_are_in_the_order_of_their_bytes_though_a_plan_of_a_large_one_is_small(tmp_path):
    cells, records = recorded()
    for digest, record in records.items():
        if digest.startswith("narrowuniform:8"):
            record["bytes"] = {**record["bytes"], "training_bytes": 100}
    _, svg = draw(replace(SPEC, output=tmp_path), frontier(SPEC, cells, records))
    lower = svg.read_text().partition("compared with")[0]
    assert lower.rindex(">uniform 4<") < lower.rindex(">uniform 8<")


@pytest.mark.parametrize(
    ("value", "text"), [(900, "900 B"), (1536, "1.5 KiB"), (2**20, "1 MiB"), (2**40, "1 TiB")]
)
def test_bytes_are_written_in_their_unit(value, text):
    assert bytes_text(value) == text
