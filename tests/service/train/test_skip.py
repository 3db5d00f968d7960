"""Batches whose loss is not a number, passed over: what training goes on with, and for how long."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from service.checkpoint import Progress
from service.config import OptimizerConfig, TrainConfig
from service.distributed import launch
from service.train.finite import NotANumber
from service.train.loop import train
from service.train.rates import CURVES, Rates
from service.train.report import Reporter
from tests.service.train.skips import (
    EVERY,
    GLOBAL_BATCH,
    STEPS,
    checkpoint_of,
    make_spoilt_run,
    move_by_hand,
    stored,
    train_on,
)

BAD = 12
"""The batch of step 13, behind the checkpoint of step 8."""


def assert_same_end(found: TrainConfig, expected: TrainConfig) -> None:
    ours, theirs = (stored(checkpoint_of(config, STEPS)) for config in (found, expected))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []


@pytest.mark.dist
@pytest.mark.parametrize("nproc", [1, 2])
def test_training_goes_on_behind_the_batch_from_the_last_checkpoint_at_half_the_rates(
    nproc: int, tmp_path: Path
) -> None:
    config = make_spoilt_run(tmp_path, [BAD], batch_size=GLOBAL_BATCH // nproc)
    by_hand = replace(config, output=tmp_path / "by-hand", on_nan="stop")
    short = replace(by_hand, max_steps=EVERY)
    found, _ = launch(train_on, [config, short], nproc=nproc, name="skips")
    assert found.steps == STEPS
    (said,) = found.warnings
    assert f"since step {BAD + 1} (epoch 0, batch {BAD + 1}, rank {nproc - 1})" in said
    assert "weights of step-00000008 and goes on behind step 13 with half of the rates" in said
    assert "passed over are examples 1,536 to 1,663 of epoch 0, whose largest dense value" in said
    assert said.endswith("is 3.40282e+38 of I2")
    behind = {"step": BAD + 1, "batch": BAD + 1, "num_examples": (BAD + 1) * GLOBAL_BATCH}
    fresh = {"validated_step": -1, "best_step": -1, "best_score": -np.inf, "scheduler": {}}
    move_by_hand(
        checkpoint_of(by_hand, EVERY), lr_ratio=0.5, num_skipped=1, num_worse=0, **behind, **fresh
    )
    launch(train_on, [replace(by_hand, resume=True)], nproc=nproc, name="by-hand")
    assert_same_end(config, by_hand)


@pytest.mark.parametrize("step", [14, 17], ids=["before it is noticed", "afterwards"])
def test_a_run_stopped_around_such_a_batch_ends_as_an_undisturbed_one(step, tmp_path, monkeypatch):
    config = make_spoilt_run(tmp_path, [BAD], optimizer=OptimizerConfig(schedule="cosine"))
    calm = replace(config, output=tmp_path / "calm")
    launch(train, calm, nproc=1, name="calm")

    class Interrupted(Reporter):
        def end_step(self, progress, loss, loader):
            super().end_step(progress, loss, loader)
            if progress.step == step and progress.num_skipped == (step > 14):
                signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("service.train.loop.Reporter", Interrupted)
        assert launch(train, config, nproc=1, name="stopped").stopped_by == "SIGTERM"
    assert launch(train, replace(config, resume=True), nproc=1, name="again").steps == STEPS
    assert_same_end(config, calm)


def test_the_very_first_batch_can_be_passed_over(tmp_path):
    config = make_spoilt_run(tmp_path, [0], max_steps=4)
    result = launch(train, config, nproc=1, name="first")
    assert result.steps == 4
    assert "takes up the weights of step-00000000 and goes on behind step 1 " in result.warnings[0]


def test_the_fourth_batch_stops_the_run_and_no_checkpoint_holds_what_is_not_a_number(tmp_path):
    config = make_spoilt_run(tmp_path, [2, 9, 11, 20], validate_every=6)
    with pytest.raises(NotANumber, match=r"not a number since step 21 .*, at .* of 0.00625 \(tab"):
        launch(train, config, nproc=1, name="too-many")
    folders = sorted((config.output / "checkpoints").iterdir())
    assert len(folders) > 3
    for folder in folders:
        tensors = stored(folder)
        assert [name for name in tensors if not np.isfinite(tensors[name]).all()] == []


@pytest.mark.parametrize("schedule", ["plateau", *CURVES])
def test_the_rates_are_half_of_what_they_would_be_from_then_on(schedule):
    whole, half = (torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.8) for _ in "ab")
    config = OptimizerConfig(schedule=schedule)
    rates = [Rates(optimizer, config, Progress(), total_steps=10) for optimizer in (whole, half)]
    rates[1].take_up(Progress(num_skipped=1, lr_ratio=0.5))
    for _ in range(9):
        assert half.param_groups[0]["lr"] == pytest.approx(whole.param_groups[0]["lr"] / 2)
        for optimizer, of_optimizer in zip((whole, half), rates, strict=True):
            optimizer.step()
            of_optimizer.step()
