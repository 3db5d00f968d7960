"""What a run writes down is what it goes on with."""

from dataclasses import replace

import pytest

from models.layers import linear
from service.distributed import launch
from service.run_folder import RunFolder
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from tests.service.train.runs import make_run


@pytest.mark.skipif(not linear.has_onednn_linear(), reason="this torch has one routine only")
def test_a_run_goes_on_with_the_routine_it_has_used_whatever_is_faster_now(tmp_path, monkeypatch):
    config = make_run(tmp_path, max_steps=3, matmul="auto")
    folder = RunFolder(config.output)
    monkeypatch.setattr(linear, "choose_matmul", lambda: "onednn")
    launch(train, config, nproc=1, name="run")
    assert folder.read_run()["matmul"] == "onednn"

    monkeypatch.setattr(linear, "choose_matmul", lambda: "mkl")
    launch(train, replace(config, resume=True, max_steps=5), nproc=1, name="run")
    assert folder.read_run()["matmul"] == "onednn"
    launch(evaluate_run, EvaluateConfig(run=config.output), nproc=1, name="run")
    assert linear.active_matmul() == "onednn"

    launch(train, replace(config, overwrite=True), nproc=1, name="run")
    assert folder.read_run()["matmul"] == "mkl"
