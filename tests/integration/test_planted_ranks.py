"""Fields that need a known number of dimensions get them; the figures are docs/benchmarks/planted.

Needs no raw data: the clicks come from `tests.planted`.
"""

from pathlib import Path

import pytest

from models.networks import DeepFMNetwork
from models.sizing import Spectral
from service.config import OptimizerConfig, TrainConfig
from service.distributed import launch
from service.search.config import SearchConfig
from service.search.methods import METHODS
from service.search.run import search
from service.sizing import read_sizing
from tests.planted import RANKS, Experiment, measure, spearman, summary, write_planted

NUM_SEEDS = 5


def effective_ranks(folder: Path, num_train: int) -> dict[str, float]:
    experiment = Experiment(folder, seed=0, num_train=num_train, epochs=2)
    plan = experiment.size(Spectral(warm_up=str(experiment.warm_up)))
    return {name: blocks[0].asked_dim for name, blocks in plan.fields.items()}


def test_noise_is_told_from_rank_one_and_that_from_rank_eight(tmp_path):
    found = launch(effective_ranks, tmp_path, 40_000, nproc=1, name="ranks")
    assert spearman(list(found.values()), list(RANKS.values())) >= 0.8
    by_rank = {r: [found[n] for n in found if RANKS[n] == r] for r in set(RANKS.values())}
    assert max(by_rank[0]) < min(by_rank[8])
    assert max(by_rank[1]) < min(by_rank[8])


@pytest.mark.slow
def test_spectral_widths_are_worth_the_planted_ones(tmp_path):
    seeds = [
        launch(measure, tmp_path / str(seed), seed, 100_000, nproc=1, name="planted")
        for seed in range(NUM_SEEDS)
    ]
    assert all(seed["spearman"] >= 0.8 for seed in seeds)
    plans = {(row["plan"], row["bytes"]): row for row in summary(seeds, 100_000)["plans"]}
    for start in ("scratch", "warm"):
        assert plans["spectral", "all"][start]["lost_to_planted"] <= 0.001


def asked_dims(folder: Path, method: str, seed: int) -> dict[str, float]:
    """Widths by a search's own rule, at as many dimensions as the fields have."""
    write_planted(folder / "data", seed=seed, num_train=100_000)
    train = TrainConfig(
        data=folder / "data",
        output=folder / "found",
        network=DeepFMNetwork(hidden=(64,)),
        optimizer=OptimizerConfig(sparse="adagrad"),
        epochs=3,
        batch_size=512,
        seed=seed,
        device="cpu",
        matmul="mkl",
        checkpoint_every=0,
    )
    search(SearchConfig(train=train, method=METHODS[method](), retrain=False), lambda stage: None)
    fields = read_sizing(folder / "found" / "sizing.json").fields
    return {name: blocks[0].asked_dim for name, blocks in fields.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(NUM_SEEDS))
@pytest.mark.parametrize("method", ["spectral", "sseds", "prune-regrow"])
def test_searches_order_informative_above_weak_above_noise(method, seed, tmp_path):
    dims = asked_dims(tmp_path, method, seed)
    mean = {
        rank: sum(dims.get(name, 0) for name, of in RANKS.items() if of == rank) / 2
        for rank in set(RANKS.values())
    }
    assert mean[8] > mean[1] > mean[0], dims
    assert spearman([dims.get(name, 0) for name in RANKS], list(RANKS.values())) > 0.5, dims
