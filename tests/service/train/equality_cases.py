"""Which runs the equality contract compares, and how far each is off."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from models.networks import DeepFMNetwork, DLRMNetwork
from models.tables import SparseOptimizer
from service.config import OptimizerConfig, TrainConfig
from service.distributed import launch
from sharding.constraints import (
    KERNELS,
    SHARDING_TYPES,
    Kernel,
    Planner,
    ShardingConfig,
    ShardingType,
)
from tests.service.train.equality_oracle import train_unpacked
from tests.service.train.equality_runs import (
    Array,
    State,
    Trained,
    make_packed_run,
    train_all,
)

NETWORKS = {
    "dlrm": DLRMNetwork(bottom=(16,), top=(8,)),
    "deepfm": DeepFMNetwork(hidden=(16, 8)),
}
RATES: dict[SparseOptimizer, float] = {
    "sgd": 10.0,
    "adagrad": 0.1,
    "adam": 0.01,
    "amsgrad": 0.01,
    "rowwise_adagrad": 0.1,
}
"""At which every table moves by far more than single precision errs."""
HOSTS = 2
"""Four ranks are two hosts of two."""
CUT_BY_COLUMNS = ("column_wise", "table_column_wise", "grid_shard")
Pooling = Literal["sum", "mean"]
Oracle = tuple[State, list[float], Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One run."""

    kind: ShardingType
    optimizer: SparseOptimizer
    pooling: Pooling
    nproc: int
    kernel: Kernel = "fused"
    device: Literal["cpu", "cuda"] = "cpu"
    planner: Planner = "own"
    network: Literal["dlrm", "deepfm"] = "dlrm"
    """DLRM has projections in front of it, DeepFM has them folded into its layers."""

    def __str__(self) -> str:
        return "-".join(str(getattr(self, field.name)) for field in fields(self))

    @property
    def ranks_per_host(self) -> int:
        return 2 if self.nproc == 4 else self.nproc

    @property
    def is_other_optimizer(self) -> bool:
        """Row-wise Adagrad of column shards: a mean over some columns, a known exception."""
        pieces = {"table_column_wise": self.ranks_per_host, "column_wise": self.nproc}
        pieces["grid_shard"] = self.nproc // self.ranks_per_host
        return self.optimizer == "rowwise_adagrad" and pieces.get(self.kind, 1) > 1


FUSED: tuple[SparseOptimizer, ...] = ("sgd", "adagrad", "rowwise_adagrad")
DENSE: tuple[SparseOptimizer, ...] = (*FUSED, "adam", "amsgrad")


def _case(kind: ShardingType, optimizer: SparseOptimizer, turn: int, nproc: int) -> Case:
    return Case(kind=kind, optimizer=optimizer, pooling="mean" if turn % 2 else "sum", nproc=nproc)


PRODUCT = [
    _case(kind, optimizer, turn, nproc)
    for nproc, kind, turn in product((1, 2, 4), SHARDING_TYPES, (0, 1))
    for optimizer in (DENSE if kind == "data_parallel" else FUSED)
]
"""Everything."""

DEFAULT = [
    *(_case("table_wise", optimizer, turn, 1) for turn, optimizer in enumerate(FUSED)),
    _case("row_wise", "adagrad", 0, 1),
    _case("data_parallel", "adam", 1, 1),
    *(
        _case(kind, optimizer, row + column, 2)
        for row, kind in enumerate(SHARDING_TYPES)
        for column, optimizer in enumerate(("adagrad", "rowwise_adagrad"))
    ),
    *(_case(kind, "sgd", row, 2) for row, kind in enumerate(("table_wise", "row_wise"))),
    *(_case("data_parallel", optimizer, row, 2) for row, optimizer in enumerate(DENSE[3:])),
    *(_case(kind, "adagrad", row, 4) for row, kind in enumerate(SHARDING_TYPES[1:])),
    _case("table_row_wise", "rowwise_adagrad", 0, 4),
    replace(_case("grid_shard", "adagrad", 0, 4), planner="greedy"),  # two columns a host
    replace(_case("table_wise", "adagrad", 1, 1), network="deepfm"),
    replace(_case("table_wise", "rowwise_adagrad", 0, 2), network="deepfm"),
]
"""Every type and optimizer, once or twice; the rest of the product is slow."""

REST = [case for case in PRODUCT if case not in DEFAULT]

GPU = [
    Case(
        kind="table_wise",
        optimizer=optimizer,
        pooling="sum",
        nproc=1,
        kernel=kernel,
        device="cuda",
    )
    for kernel, optimizer in product(KERNELS, FUSED)
]
"""Not Adam, whose fused kernel moves only the rows that are read: another algorithm."""


def make_equality_run(folder: Path) -> TrainConfig:
    """Data, sizing plan and configuration that all cases share."""
    return make_packed_run(folder)


def variant(config: TrainConfig, case: Case) -> TrainConfig:
    """The run of a case, in a folder of its own."""
    return replace(
        config,
        output=config.output / str(case),
        device=case.device,
        sharding=ShardingConfig(types=(case.kind,), kernel=case.kernel, planner=case.planner),
        optimizer=OptimizerConfig(
            sparse=case.optimizer, sparse_lr=RATES[case.optimizer], dense_lr=0.01, eps=1e-4
        ),
        pooling=case.pooling,
        network=NETWORKS[case.network],
    )


def trained_by_cases(config: TrainConfig, cases: Sequence[Case]) -> list[tuple[Case, Trained]]:
    """Every case trained by one set of ranks, all of one number."""
    (nproc,) = {case.nproc for case in cases}
    found = launch(
        train_all,
        [variant(config, case) for case in cases],
        cases[0].ranks_per_host if nproc > 1 else 0,
        nproc=nproc,
        name="equality",
    )
    return list(zip(cases, found, strict=True))


_KNOWN: dict[tuple[str, ...], Oracle] = {}


def expected(config: TrainConfig, case: Case, start: State) -> Oracle:
    """Training in float64, once for each optimizer, pooling and network: all start alike."""
    key = (str(config.data), case.optimizer, case.pooling, case.network)
    if key not in _KNOWN:
        _KNOWN[key] = train_unpacked(variant(config, case), start)
    return _KNOWN[key]


def errors(found: Trained, oracle: Oracle) -> dict[str, float]:
    """Largest differences from the oracle."""
    end, losses, predictions = oracle
    weights = [
        _largest(getattr(found.after, part), getattr(end, part))
        for part in ("tables", "projections", "dense")
    ]
    state = [
        _largest(found.after.optimizer[name], end.optimizer[name], least=1e-12)
        for name in end.tables
    ]
    return {
        "predictions": float(np.abs(found.predictions - predictions).max()),
        "losses": float(np.abs(np.array(found.losses) - losses).max()),
        "weights": max(weights),
        "optimizer": max(state),
    }


def _largest(found: dict[str, Array], expected: dict[str, Array], least: float = 1.0) -> float:
    """Largest difference of arrays by name, relative to their largest number, or to ``least``."""
    assert found.keys() >= expected.keys(), (sorted(found), sorted(expected))
    return max(
        (
            float(np.abs(found[name] - exact).max() / max(least, np.abs(exact).max()))
            if found[name].shape == exact.shape
            else float("inf")
            for name, exact in expected.items()
        ),
        default=0.0,
    )
