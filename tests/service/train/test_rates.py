"""Schedules of the learning rates: their curves reach every optimizer, and survive a resume."""

from dataclasses import replace

import pytest

from service.config import OptimizerConfig, TrainConfig
from service.distributed import launch
from service.sizing import read_sizing
from service.train.loop import train
from tests.service.train.plain import train_plainly, train_sharded
from tests.service.train.runs import make_run


@pytest.mark.dist
@pytest.mark.parametrize("sparse", ["sgd", "amsgrad"])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_rates_of_tables_and_layers_follow_the_curve(schedule, sparse, tmp_path):
    """Against float64 loops; the fused optimizer takes its rate before the step, not after."""
    moving = OptimizerConfig(
        sparse=sparse, sparse_lr=0.05, dense_lr=0.01, eps=1e-6, schedule=schedule
    )
    config = make_run(tmp_path, optimizer=moving)
    plan = read_sizing(config.sizing).plan
    start, found = launch(train_sharded, config, plan, 8, nproc=1, name="curve")
    for name, weight in train_plainly(config, plan, 8, start).items():
        assert found[name] == pytest.approx(weight, abs=2e-6, rel=0), name


@pytest.mark.parametrize("sparse", ["rowwise_adagrad", "amsgrad"])
def test_a_resumed_run_goes_on_along_the_curve(sparse, tmp_path):
    moving = OptimizerConfig(sparse=sparse, schedule="cosine")
    config = make_run(tmp_path, optimizer=moving, epochs=2, checkpoint_every=8, keep_checkpoints=9)
    expected = launch(train, config, nproc=1, name="calm")
    for step in (32, 40, 48, 56, 64):
        metadata = config.output / "checkpoints" / f"step-{step:08d}" / ".metadata"
        metadata.unlink()
    resumed = launch(train, replace(config, resume=True), nproc=1, name="go-on")
    assert resumed.scores == expected.scores
    assert resumed.steps == expected.steps == 64


def test_a_clip_that_is_upside_down_is_refused():
    with pytest.raises(ValueError, match=r"clip=\(5, 1\), expected the lowest rating before"):
        TrainConfig(clip=(5, 1))
