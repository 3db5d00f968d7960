"""Points of quality against bytes: of a comparison's files, and of the runs in a home."""

import json
import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from service.api.frontiers import points_of_comparison, points_of_runs
from service.api.home import Home


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def add_run(home: Home, name: str, auc: float, **settings: Any) -> None:
    path = home.place("runs", name)
    config = {"data": "/home/datasets/clicks", "output": str(path), "network": {"kind": "dlrm"}}
    record = {"config": config | settings, "training_bytes": {"planned": 1000}}
    width = [{"num_embeddings": 9, "embedding_dim": settings.pop("width", 4)}]
    write(path / "run.json", record)
    write(path / "sizing.json", {"scheme": {"kind": "uniform"}, "fields": {"C1": width}})
    write(path / "result.json", {"scores": {"auc": auc, "log_loss": 0.4}, "steps": 7})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_seeds_of_one_plan_are_one_point_with_their_spread(home: Home) -> None:
    scores = [0.70, 0.72, 0.71]
    for seed, auc in enumerate(scores):
        add_run(home, f"run-{seed}", auc, seed=seed)
    (point,) = points_of_runs(home, "clicks")
    assert point.value == pytest.approx(fmean(scores))
    assert point.sd == pytest.approx(stdev(scores))
    assert point.low < point.value < point.high
    assert [run.run for run in point.runs] == ["run-0", "run-1", "run-2"]


def test_another_plan_or_setting_is_another_point(home: Home) -> None:
    add_run(home, "one", 0.7, seed=0)
    add_run(home, "two", 0.7, seed=0, epochs=2)
    add_run(home, "three", 0.7, seed=0, width=8)
    points = points_of_runs(home, "clicks")
    assert sorted(run.run or "" for point in points for run in point.runs) == [
        "one",
        "three",
        "two",
    ]
    assert [point.n for point in points] == [1, 1, 1]
    assert all(point.sd is None and point.low == point.value for point in points)


def test_runs_without_scores_or_on_other_data_are_left_out(home: Home) -> None:
    add_run(home, "other", 0.7, seed=0, data="/home/datasets/ratings")
    add_run(home, "unfinished", 0.7, seed=0)
    (home.place("runs", "unfinished") / "result.json").unlink()
    add_run(home, "all-alike", math.nan, seed=0)  # labels of one kind have no AUC
    assert points_of_runs(home, "clicks") == []


def test_a_comparison_names_its_runs_by_seed(tmp_path: Path) -> None:
    score = {"mean": 0.7, "sd": 0.1, "half_width": 0.05, "n": 2}
    point = {"recipe": "fm", "sizing": "uniform", "budget": "4x", "dtype": "", "metric": "auc"}
    figures = {"training_bytes": 1000.0, "serving_bytes": 800.0}
    point |= {"scores": {"auc": score}, "figures": figures, "widths": {"C1": [4]}}
    served = point | {"dtype": "int8"}
    cell = {"recipe": "fm", "sizing": "uniform", "budget": "4x", "runs": {"0": "aa", "1": "bb"}}
    nothing = {"auc": {"mean": None, "sd": None, "half_width": None, "n": 0}}
    unscored = point | {"sizing": "hopeless", "scores": nothing}
    write(tmp_path / "frontier.json", [point, served, unscored])
    write(tmp_path / "grid.json", {"cells": [cell]})
    record = {"hash": "aa", "test": {"auc": 0.65}, "steps": 9, "seconds": 1.5}
    (tmp_path / "runs.jsonl").write_text(json.dumps(record) + "\n")
    plain, rounded = points_of_comparison(tmp_path)
    assert (plain.method, plain.low, plain.high) == ("uniform", pytest.approx(0.65), 0.75)
    assert [(run.seed, run.value, run.steps) for run in plain.runs] == [(0, 0.65, 9)]
    assert (rounded.method, rounded.runs) == ("uniform, int8", [])
