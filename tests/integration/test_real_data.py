"""The whole way on real files, where they are: prepare, size, train on two ranks, evaluate."""

import json
from pathlib import Path

import pytest

from service.__main__ import main

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.dist,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA.name}"),
]

# Ten thousand rows are far too few to say anything about sizes; they show that the forms are read.
CLICKS = {
    "criteo": ("criteo/train_head_10000.txt.gz", 10_000),
    "avazu": ("avazu/train_head_9999.csv.gz", 9_999),
}


def scores_of(run: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    scores: dict[str, float] = json.loads(capsys.readouterr().out)["scores"]
    return scores


@pytest.mark.parametrize("source", CLICKS)
@pytest.mark.parametrize("network", ["dlrm", "deepfm"])
def test_clicks_are_learned_from_raw_lines(source, network, tmp_path, capsys):
    file, num_rows = CLICKS[source]
    data, sizing, run = tmp_path / "data", tmp_path / "sizing.json", tmp_path / "run"
    assert main(["prepare", source, str(DATA / file), "--output", str(data)]) == 0
    info = json.loads((data / "dataset.json").read_text())
    assert info["num_rows"] + info["num_rejects"] == num_rows
    plan = ["--scheme", "popularity", "--budget", "2x", "--max-dim", "32"]
    assert main(["size", str(data), *plan, "--output", str(sizing)]) == 0
    where = ["--data", str(data), "--sizing", str(sizing), "--output", str(run)]
    assert main(["train", network, *where, "--nproc", "2", "--batch-size", "128"]) == 0
    assert scores_of(run, capsys)["auc"] > 0.62


def test_ratings_of_movielens_1m_are_factorized(tmp_path, capsys):
    data, sizing, run = tmp_path / "data", tmp_path / "sizing.json", tmp_path / "run"
    file = DATA / "movielens" / "ml-1m_ratings.dat.gz"
    assert main(["prepare", "movielens", str(file), "--output", str(data)]) == 0
    plan = ["--fields", "user_id", "item_id", "--dim", "16", "--optimizer", "adagrad"]
    assert main(["size", str(data), *plan, "--output", str(sizing)]) == 0
    where = ["--data", str(data), "--sizing", str(sizing), "--output", str(run)]
    assert main(["train", "mf", *where, "--nproc", "2", "--epochs", "3"]) == 0
    found = scores_of(run, capsys)
    assert (
        found["num_rows"]
        == json.loads((data / "dataset.json").read_text())["splits"]["test"]["num_rows"]
    )
    assert found["mse"] < 0.83  # predicting the mean rating leaves 1.25
