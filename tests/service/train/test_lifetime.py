"""Ranks that live through many trainings do not collect threads, connections and groups."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.config import TrainConfig
from service.distributed import joined_ranks, launch
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from tests.service.train.runs import make_run

SELF = Path("/proc/self")


def count_after_each(configs: Sequence[TrainConfig]) -> list[list[tuple[int, ...]]]:
    """Threads and open files of every rank after each training and its evaluation."""
    with joined_ranks("cpu") as ranks:
        counts = []
        for config in configs:
            train(config)
            evaluate_run(EvaluateConfig(run=config.output, device="cpu"))
            gc.collect()
            counts.append(tuple(len(list((SELF / what).iterdir())) for what in ("task", "fd")))
        return ranks.gather(counts)


@pytest.mark.dist
@pytest.mark.skipif(not SELF.exists(), reason="the oracle is Linux's /proc")
def test_a_rank_has_as_many_threads_after_five_trainings_as_after_two(tmp_path):
    rows = {"train": 256, "validation": 64, "test": 64}
    config = make_run(tmp_path, rows=rows, batch_size=32, checkpoint_every=3)
    configs = [replace(config, output=tmp_path / f"run-{turn}") for turn in range(5)]
    for of_rank in launch(count_after_each, configs, nproc=2, name="lifetime"):
        more = np.array(of_rank[4]) - of_rank[1]
        assert (more < 3).all(), of_rank  # not one a training
