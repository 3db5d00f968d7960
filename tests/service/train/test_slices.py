"""Scores by frequency against loops over rows and ids."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.__main__ import main
from service.data.dataset import read_dataset_info
from service.train.evaluation import Predicted
from service.train.slices import SLICES, check_slice, score_slices, slice_of_ids
from tests.service.compare.specs import write_counts
from tests.service.train.runs import make_run


def slice_in_loops(counts, unknown_id):
    """Walk the ids from the most frequent one until a share of the lookups is covered."""
    known = [0 if i == unknown_id else int(n) for i, n in enumerate(counts)]
    slices, covered = [], 0
    for count in known:
        share = covered / sum(known) if sum(known) else 0
        tenths = round(share * 10, 9)
        place = "head" if tenths < 5 else "torso" if tenths < 9 else "tail"
        slices.append("unseen" if count == 0 else place)
        covered += count
    return slices


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_ids_are_sliced_as_a_walk_down_the_ranks_slices_them(counts, data):
    counts = np.array(sorted(counts, reverse=True))
    unknown_id = data.draw(st.integers(0, len(counts) - 1))
    found = [SLICES[place] for place in slice_of_ids(counts, unknown_id)]
    assert found == slice_in_loops(counts, unknown_id)


def test_a_share_that_ends_with_an_id_does_not_spill_over():
    # 50 + 40 + 10: each slice is one id, and "out of vocabulary" is in none.
    assert slice_of_ids(np.array([50, 40, 30, 10]), unknown_id=2).tolist() == [0, 1, 3, 2]


def scores_in_loops(predicted, names, task):
    found = {}
    for slice_name in SLICES:
        rows = [i for i, name in enumerate(names) if name == slice_name]
        p = [float(predicted.predictions[i]) for i in rows]
        y = [float(predicted.labels[i]) for i in rows]
        if rows and task == "rating":
            mse = sum((a - b) ** 2 for a, b in zip(p, y, strict=True)) / len(rows)
            found[slice_name] = {"num_rows": len(rows), "mse": mse, "rmse": math.sqrt(mse)}
        elif rows:
            loss = [-math.log(a) if b else -math.log1p(-a) for a, b in zip(p, y, strict=True)]
            pairs = [
                (a > b) + (a == b) / 2
                for a, c in zip(p, y, strict=True)
                if c
                for b, d in zip(p, y, strict=True)
                if not d
            ]
            found[slice_name] = {
                "num_rows": len(rows),
                "log_loss": sum(loss) / len(loss),
                "auc": sum(pairs) / len(pairs) if pairs else math.nan,
            }
    return found


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 200), st.sampled_from(["click", "rating"]))
def test_scores_of_slices_equal_loops_over_their_rows(seed, num_rows, task):
    rng = np.random.default_rng(seed)
    counts = np.sort(rng.integers(0, 50, 12))[::-1].copy()
    ids = rng.integers(0, 12, num_rows).astype(np.int32)
    predictions = (rng.integers(1, 20, num_rows) / 20).astype(np.float32)
    labels = (rng.random(num_rows) < 0.4).astype(np.float32)
    predicted = Predicted(predictions=predictions, labels=labels)
    found = score_slices(predicted, ids, slice_of_ids(counts, 11), task)
    names = slice_in_loops(counts, 11)
    expected = scores_in_loops(predicted, [names[i] for i in ids], task)
    assert {name: of["num_ids"] for name, of in found.items()} == {
        n: names.count(n) for n in SLICES
    }
    assert sum(of["num_rows"] for of in found.values()) == num_rows
    for name, scores in expected.items():
        for key, value in scores.items():
            assert found[name][key] == pytest.approx(value, abs=2e-6, nan_ok=True), (name, key)
    assert all(set(found[n]) == {"num_ids", "num_rows"} for n in SLICES if n not in expected)


@pytest.mark.dist
def test_slices_of_a_run_are_those_of_its_rows_on_any_number_of_ranks(tmp_path, capsys):
    config = make_run(tmp_path)
    write_counts(config.data, {"C1": 40, "C3": 300})
    where = ["--data", str(config.data), "--sizing", str(config.sizing)]
    where += ["--output", str(config.output), "--batch-size", "128", "--matmul", "mkl"]
    assert main(["train", "smoke", *where, "--max-steps", "3"]) == 0
    capsys.readouterr()
    found = {}
    for nproc in ("1", "2"):
        flags = ["--slices", "C1", "C3", "--nproc", nproc, "--batch-size", "64", "--json"]
        assert main(["evaluate", str(config.output), *flags]) == 0
        found[nproc] = json.loads(capsys.readouterr().out)
    assert "rank" not in found["1"]
    assert found["1"] == found["2"], "predictions are put back in the order of the split"
    parts = sorted((config.data / "test").glob("*.parquet"))
    for field, unknown_id in (("C1", 39), ("C3", 299)):
        ids = np.concatenate([pq.read_table(path)[field].to_numpy() for path in parts])
        counts = pq.read_table(config.data / f"vocab/{field}.parquet")["count"].to_numpy()
        names = slice_in_loops(counts, unknown_id)
        rows = {name: of["num_rows"] for name, of in found["1"]["slices"][field].items()}
        assert rows == {name: sum(names[i] == name for i in ids) for name in SLICES}


def test_a_field_that_cannot_slice_is_refused_with_those_that_can(tmp_path):
    config = make_run(tmp_path)
    info = read_dataset_info(config.data)
    with pytest.raises(ValueError, match="'C9' is not a field of the dataset; try one of C1, C2"):
        check_slice(info, "C9")
    with pytest.raises(ValueError, match=r"field 'C4' holds lists, .* try one of C1, C2, C3"):
        check_slice(info, "C4")
    assert check_slice(info, "C3").stats.name == "C3"
