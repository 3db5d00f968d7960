"""Loggers say what metrics.jsonl says, each point once, and never stop a training."""

import json
import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from service.config import TrainConfig
from service.loggers import follow
from service.loggers.base import check_installed, figures
from service.loggers.follow import Followers
from service.loggers.mlflow import MLflowLogger
from service.loggers.tensorboard import TensorBoardLogger
from service.run_folder import RunFolder

FIRST = [
    {"step": 5, "kind": "train", "epoch": 0, "loss": 0.7, "examples_per_second": 90.0},
    {"step": 10, "kind": "train", "epoch": 0, "loss": 0.6, "examples_per_second": 80.0},
    {"step": 10, "kind": "validation", "epoch": 0, "auc": 0.7, "calibration": None},
]
AGAIN = [*FIRST[:1], {**FIRST[1], "examples_per_second": 70.0}, FIRST[2]]
"""The same steps after a resume from step 5: scores to the digit, speeds others."""
LATER = [
    {"step": 15, "kind": "train", "epoch": 1, "loss": 0.5, "examples_per_second": 60.0},
    {"step": 15, "kind": "test", "epoch": 1, "auc": 0.75},
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = RunFolder(tmp_path / "runs" / "a")
    folder.path.mkdir(parents=True)
    return TrainConfig(output=folder.path, log_to=("tensorboard", "mlflow")), folder


def points(lines):
    """Every figure of some lines."""
    return Counter(
        (name, line["step"], round(value, 6))
        for line in lines
        for name, value in figures(line).items()
    )


def tensorboard_points(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return Counter(
        (name, event.step, round(event.value, 6))
        for name in events.Tags()["scalars"]
        for event in events.Scalars(name)
    )


def mlflow_run(folder):
    from mlflow.tracking import MlflowClient

    known = json.loads((folder.path / "mlflow.json").read_text())
    client = MlflowClient(known["tracking_uri"])
    found = client.get_run(known["run_id"])
    history = (
        (name, metric.step, round(metric.value, 6))
        for name in found.data.metrics
        for metric in client.get_metric_history(known["run_id"], name)
    )
    return found, Counter(history)


def test_a_resumed_run_has_every_point_once(run):
    config, folder = run
    for lines, resume in ((FIRST, False), (AGAIN + LATER, True)):
        (folder.path / "metrics.jsonl").unlink(missing_ok=True)
        with Followers(replace(config, resume=resume), folder) as followers:
            for line in lines:
                folder.append_metrics(line)
                followers.notify()
    assert tensorboard_points(folder) == points(AGAIN + LATER)
    found, history = mlflow_run(folder)
    assert history == points(FIRST + LATER)  # MLflow keeps the speeds that it was told first
    assert found.info.status == "FINISHED"
    assert found.data.params["optimizer.sparse"] == config.optimizer.sparse
    assert found.data.tags["mlflow.runName"] == "a"


def test_a_run_that_begins_anew_is_another_mlflow_run(run):
    config, folder = run
    numbers = set()
    for _ in range(2):
        logger = MLflowLogger(config, folder)
        logger.log(FIRST)
        logger.close(has_failed=True)
        found, history = mlflow_run(folder)
        numbers.add(found.info.run_id)
        assert (found.info.status, history) == ("FAILED", points(FIRST))
    assert len(numbers) == 2


def test_a_logger_that_is_away_gets_the_lines_when_it_is_back(run, monkeypatch, caplog):
    config, folder = run
    asked = threading.Event()
    server = SimpleNamespace(is_up=False, lines=[])

    def log(lines):
        asked.set()
        if not server.is_up:
            raise OSError("no route to host")
        server.lines += lines

    logger = SimpleNamespace(log=log, close=lambda has_failed: None)
    monkeypatch.setattr(follow, "_mlflow", lambda config, folder: logger)
    with Followers(replace(config, log_to=("mlflow",)), folder) as followers:
        for line in FIRST:
            folder.append_metrics(line)
        followers.notify()
        assert asked.wait(30)
        server.is_up = True
        folder.append_metrics(LATER[0])
        followers.notify()
    assert server.lines == [*FIRST, LATER[0]]
    assert "no route to host; training goes on" in caplog.text


def test_half_a_line_waits_for_its_end(run):
    _, folder = run
    path = folder.path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    assert follow._lines(path, 0) == ([{"step": 1}], 12)
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert follow._lines(path, 12) == ([{"step": 2}], 24)


def test_a_missing_package_is_said_before_anything_is_trained(monkeypatch, run):
    monkeypatch.setattr("service.loggers.base.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'mlflow', which is not installed; pip install 'mixdim"):
        check_installed(("mlflow",))
    with pytest.raises(ValueError, match="leave tensorboard out of --log-to"):
        Followers(*run)


def test_tensorboard_is_written_anew(run):
    _, folder = run
    for lines in (FIRST, LATER):
        logger = TensorBoardLogger(folder.path)
        logger.log(lines)
        logger.close(has_failed=False)
    assert tensorboard_points(folder) == points(LATER)
