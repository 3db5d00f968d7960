"""Named starting points: functions that return a configuration; flags override what they say.

Where every figure is from is in docs/models.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from models.networks import (
    CollabNNNetwork,
    DCNv2Network,
    DeepFMNetwork,
    DLRMNetwork,
    DotBiasNetwork,
    FMNetwork,
    MFNetwork,
    NCFNetwork,
    WideDeepNetwork,
)
from service.config import OptimizerConfig, TrainConfig

STARS: Final = (0.0, 5.5)
"""Bounds of ratings from 1 to 5, with the room that a sigmoid needs to reach them."""


def dlrm() -> TrainConfig:
    """DLRM with the layers of its Criteo Kaggle benchmark, one epoch."""
    return TrainConfig(network=DLRMNetwork())


def dcnv2() -> TrainConfig:
    """DCN-V2, cross layers of rank 64 below a deep network, one epoch."""
    return TrainConfig(network=DCNv2Network())


def deepfm() -> TrainConfig:
    """DeepFM with the paper's three layers of 400, one epoch."""
    return TrainConfig(network=DeepFMNetwork())


def fm() -> TrainConfig:
    """Factorization machine, one epoch."""
    return TrainConfig(network=FMNetwork())


def wide_deep() -> TrainConfig:
    """Wide & Deep with the paper's layers of 1024, 512 and 256, one epoch."""
    return TrainConfig(network=WideDeepNetwork())


def mf() -> TrainConfig:
    """Biased matrix factorization of ratings, regularised; 12 epochs of falling rates."""
    return TrainConfig(
        network=MFNetwork(),
        optimizer=OptimizerConfig(sparse="adam", sparse_lr=0.03, schedule="cosine"),
        l2=0.0375,
        l2_bias=0.03,
        l2_growth=0.25,
        epochs=12,
        patience=12,
        batch_size=2048,
    )


def dotbias() -> TrainConfig:
    """The dot of user and item with biases of fastai, bounded to ratings of 1 to 5."""
    return replace(mf(), network=DotBiasNetwork(y_range=STARS))


def ncf() -> TrainConfig:
    """Neural collaborative filtering of ratings, three layers of 128."""
    return replace(_neural_ratings(), network=NCFNetwork())


def collabnn() -> TrainConfig:
    """The network of fastbook: one hidden layer of 100, bounded to ratings of 1 to 5."""
    return replace(_neural_ratings(), network=CollabNNNetwork(y_range=STARS))


def _neural_ratings() -> TrainConfig:
    return TrainConfig(
        optimizer=OptimizerConfig(sparse="adam", sparse_lr=5e-3, dense_lr=1e-3, schedule="cosine"),
        l2=0.02,
        epochs=12,
        patience=12,
        batch_size=2048,
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
    {
        preset.__name__: preset
        for preset in (dlrm, dcnv2, deepfm, fm, wide_deep, mf, dotbias, ncf, collabnn, smoke)
    }
)
