"""Every network trains and evaluates with every sizing, on one rank and on two.

Networks and schemes are read from their registries: a new one is tested the day it appears.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.embeddings.mixed import MixedEmbeddings
from service.checkpoint import StoredTensors, best_checkpoint
from service.config import TrainConfig
from service.distributed import launch
from service.sizing import read_sizing
from service.train.initialise import initialise_tables
from service.warm_up import TABLES
from tests.service.train.contract import (
    CASES,
    EPOCHS,
    Case,
    Outcome,
    config_of,
    run_all,
    write_data,
)

Runs = Mapping[str, tuple[TrainConfig, Outcome]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Configuration and outcome of every case; those of two ranks share one pair of them."""
    folder = tmp_path_factory.mktemp("contract")
    write_data(folder)
    found = {}
    for nproc in (1, 2):
        cases = [case for case in CASES if case.nproc == nproc]
        configs = [config_of(case, folder) for case in cases]
        outcomes = launch(run_all, configs, nproc=nproc, name="contract")
        for case, config, outcome in zip(cases, configs, outcomes, strict=True):
            found[case.name] = config, outcome
    return found


@pytest.mark.dist
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_network_trains_and_evaluates_with_every_sizing(case: Case, runs: Runs) -> None:
    config, outcome = runs[case.name]
    assert outcome.error == ""
    first, *_, last = losses_of(config.output)
    assert last < first, "learns"
    assert min(moves_of(config).values()) > 1e-4, "every table moves"
    assert outcome.evaluated == pytest.approx(outcome.trained, abs=1e-5)


@pytest.mark.dist
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.nproc == 2], ids=lambda case: case.name
)
def test_two_ranks_learn_what_one_does(case: Case, runs: Runs) -> None:
    one = runs[replace(case, nproc=1).name][1].trained
    two = runs[case.name][1].trained
    assert two == pytest.approx(one, abs=1e-3)


def losses_of(run: Path) -> list[float]:
    """Mean training loss by epoch."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert len(losses) == EPOCHS
    return losses


def moves_of(config: TrainConfig) -> dict[str, float]:
    """Largest change of a weight, by table, from the start to the best checkpoint."""
    plan = read_sizing(config.output / "sizing.json").plan
    start = MixedEmbeddings(plan)
    initialise_tables(start, plan, seed=config.seed, init=config.table_init)
    checkpoint = best_checkpoint(config.output / "checkpoints")
    assert checkpoint is not None
    trained = StoredTensors(checkpoint)
    before = {name: bag.weight for name, bag in start.tables.embedding_bags.items()}
    return {
        name: float(np.abs(trained.read(f"{TABLES}{name}.weight") - weight.detach().numpy()).max())
        for name, weight in before.items()
    }
