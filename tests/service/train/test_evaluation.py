"""Scores against plain float64 formulas, and splits that have none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.__main__ import main
from service.distributed import launch
from service.train.evaluation import score
from service.train.loop import train
from tests.service.train.runs import make_run


def scores_in_float64(predictions, labels):
    p, y = predictions.astype(np.float64), labels.astype(np.float64)
    log_loss = -np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))
    mean = y.mean()
    entropy = -(mean * np.log(mean) + (1 - mean) * np.log1p(-mean))
    positive, negative = p[y == 1][:, None], p[y == 0][None]
    auc = np.mean((positive > negative) + 0.5 * (positive == negative))
    return {
        "auc": auc,
        "log_loss": log_loss,
        "ne": log_loss / entropy,
        "calibration": p.mean() / mean,
    }


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 400), st.sampled_from([3, 1000]))
def test_click_scores_equal_their_formulas_ties_included(seed, num_rows, levels):
    rng = np.random.default_rng(seed)
    predictions = (rng.integers(1, levels, num_rows) / levels).astype(np.float32)
    labels = (rng.random(num_rows) < predictions).astype(np.float32)
    labels[:2] = 0, 1
    found = score(predictions, labels, "click")
    for name, expected in scores_in_float64(predictions, labels).items():
        assert getattr(found, name) == pytest.approx(expected, abs=1e-6), name


def test_rating_scores_equal_their_formulas():
    rng = np.random.default_rng(0)
    predictions, labels = rng.random((2, 100_000)).astype(np.float32)
    found = score(predictions, labels, "rating")
    expected = np.mean((predictions.astype(np.float64) - labels) ** 2)
    assert found.mse == pytest.approx(expected, rel=1e-6)
    assert found.rmse == pytest.approx(expected**0.5, rel=1e-6)


def test_auc_of_one_class_is_not_a_number():
    assert np.isnan(score(np.full(9, 0.5, np.float32), np.ones(9, np.float32), "click").auc)


def test_a_split_without_rows_is_refused_with_one_that_has_some(tmp_path, capsys):
    config = make_run(tmp_path, rows={"train": 512, "validation": 100, "test": 0}, max_steps=2)
    assert launch(train, config, nproc=1, name="run").split == "validation"
    assert main(["evaluate", str(config.output)]) == 2
    said = capsys.readouterr().err
    assert f"split 'test' of {config.data} has no rows, expected at least 1; " in said
    assert "give --split validation (splits with rows: validation, train)" in said
    assert main(["evaluate", str(config.output), "--split", "validation"]) == 0
