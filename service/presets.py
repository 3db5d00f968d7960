"""Named starting points: functions that return a configuration; flags override what they say."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from models.networks import DeepFMNetwork, DLRMNetwork, MFNetwork
from service.config import OptimizerConfig, TrainConfig


def dlrm() -> TrainConfig:
    """DLRM with the layers of its Criteo Kaggle benchmark, one epoch."""
    return TrainConfig(network=DLRMNetwork())


def deepfm() -> TrainConfig:
    """DeepFM with the paper's three layers of 400, one epoch."""
    return TrainConfig(network=DeepFMNetwork())


def mf() -> TrainConfig:
    """Biased matrix factorization of ratings, many epochs with early stopping."""
    return TrainConfig(
        network=MFNetwork(),
        epochs=20,
        optimizer=OptimizerConfig(sparse="adagrad", sparse_lr=0.1),
    )


def smoke() -> TrainConfig:
    """A few seconds of a tiny DLRM, to see that everything is in place."""
    return replace(
        dlrm(),
        network=DLRMNetwork(bottom=(16,), top=(16,)),
        batch_size=256,
        max_steps=20,
        log_every=5,
    )


PRESETS: Final[Mapping[str, Callable[[], TrainConfig]]] = MappingProxyType(
    {preset.__name__: preset for preset in (dlrm, deepfm, mf, smoke)}
)
