"""Small searches that tests run; every method with options that make it short."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from models.networks import DeepFMNetwork
from service.config import OptimizerConfig, TrainConfig
from service.search.config import SearchConfig
from service.search.methods import METHODS
from service.search.record import SearchRecord
from service.search.run import search

DIM: Final = 8
SHORT: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "random": {"trials": 2},
        "spectral": {"block_rows": 100},
        "autodim": {"epochs": 2},
        "autodim-s": {"epochs": 2},
        "mgqe": {"codes": 16, "tail_codes": 4},
        "optembed": {"rounds": 2, "mutations": 2, "crossovers": 2},
    }
)
"""Options by method; others are searched with their defaults."""


def make_search(
    folder: Path, method: str, options: Mapping[str, Any] | None = None, **changes: Any
) -> SearchConfig:
    """A search on the data of `tests.service.warm_runs.make_data` in ``folder/data``."""
    config = SearchConfig(
        method=METHODS[method](**(options or SHORT.get(method, {}))),
        train=TrainConfig(
            data=folder / "data",
            output=folder / method,
            network=DeepFMNetwork(hidden=(8,)),
            optimizer=OptimizerConfig(sparse="adagrad", sparse_lr=0.1),
            epochs=2,
            batch_size=128,
            checkpoint_every=5,
            log_every=5,
            device="cpu",
            matmul="mkl",
        ),
        dim=DIM,
    )
    return replace(config, **changes)


def within(config: SearchConfig, **changes: Any) -> SearchConfig:
    """The same search with other settings of its trainings."""
    return replace(config, train=replace(config.train, **changes))


def run(config: SearchConfig) -> SearchRecord:
    """Search without a word."""
    return search(config, lambda stage: None)
