"""Trainings that are saved by some ranks under one sharding and resumed by others under another.

Importable by spawned processes: many cases share one set of ranks, which take seconds to start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.layers.linear import set_matmul
from models.tables import SparseOptimizer
from service.checkpoint import Checkpoints, Progress
from service.config import TrainConfig
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.distributed import Ranks, joined_ranks
from service.sizing import read_sizing
from service.train.engine import Engine, build_engine
from sharding.constraints import ShardingType
from tests.service.train.runs import sharded

STEPS: Final = 5
"""Before the checkpoint."""
MORE: Final = 3
"""After it; the first sees the weights alone, the others the optimizer's state as well."""
GLOBAL_BATCH: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Ranks and sharding of a training."""

    nproc: int
    kind: ShardingType
    optimizer: SparseOptimizer

    @property
    def name(self) -> str:
        """As it is called in folders and reports."""
        return f"{self.nproc}-{self.kind}-{self.optimizer}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a training did from its checkpoint on."""

    predictions: npt.NDArray[np.float32]
    """Of a batch, by the weights of the checkpoint."""
    losses: list[float]
    """Of the steps behind it."""
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one set of ranks does: trainings that it saves, and resumptions of saved ones."""

    config: TrainConfig
    saves: Sequence[Shape]
    resumes: Sequence[tuple[Shape, Shape]]
    """From which into which."""


def carry_out(plan: Plan) -> tuple[list[Outcome], list[Outcome]]:
    """Save and resume on the ranks that this process is one of."""
    with joined_ranks("cpu") as ranks:
        set_matmul("mkl")
        saved = [_train_and_save(plan.config, shape, ranks) for shape in plan.saves]
        return saved, [_resume(plan.config, *change, ranks) for change in plan.resumes]


def folder_of(config: TrainConfig, shape: Shape, then: Shape | None = None) -> Path:
    """Checkpoints of a training, or those of its resumption, written before its first step."""
    return config.output / (shape.name if then is None else f"{shape.name}--{then.name}")


class Run:
    """A training of a shape that stands before its next step."""

    def __init__(self, config: TrainConfig, shape: Shape, ranks: Ranks, *, done: int) -> None:
        self.config = replace(
            config,
            batch_size=GLOBAL_BATCH // shape.nproc,
            **sharded(shape.kind, shape.optimizer),  # type: ignore[arg-type]
        )
        self.info = read_dataset_info(config.data)
        self.plan = read_sizing(config.sizing).plan
        self.engine: Engine = build_engine(self.config, self.info, self.plan, ranks)
        self.ranks = ranks
        self.pipeline = TrainPipelineSparseDist(
            self.engine.model, self.engine.optimizer, ranks.device
        )
        self.batches = self._loader().batches(first_batch=done)

    def steps(self, number: int) -> list[float]:
        """Train on; the mean loss of the global batch, by step."""
        self.engine.model.train()
        own = [float(self.pipeline.progress(self.batches)[0]) for _ in range(number)]
        return [total / self.ranks.world_size for total in self.ranks.sums(*own)]

    def predictions(self) -> npt.NDArray[np.float32]:
        """Of the first batch, over all ranks."""
        self.pipeline.detach()
        self.engine.model.eval()
        _, own, _ = self.engine.model(next(self._loader().batches()))[1]
        return np.concatenate(self.ranks.gather(own.detach().numpy()))

    def _loader(self) -> Loader:
        return Loader(
            self.config.data,
            self.info,
            "train",
            self.plan,
            batch_size=self.config.batch_size,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            seed=self.config.seed,
        )


def _train_and_save(config: TrainConfig, shape: Shape, ranks: Ranks) -> Outcome:
    run = Run(config, shape, ranks, done=0)
    run.steps(STEPS)
    checkpoints = Checkpoints(folder_of(config, shape), ranks)
    checkpoints.save(run.engine.model, run.engine.optimizer, Progress(step=STEPS))
    return Outcome(predictions=run.predictions(), losses=run.steps(MORE))


def _resume(config: TrainConfig, before: Shape, after: Shape, ranks: Ranks) -> Outcome:
    run = Run(config, after, ranks, done=STEPS)
    model, optimizer = run.engine.model, run.engine.optimizer
    checkpoints = Checkpoints(folder_of(config, before), ranks)
    path = checkpoints.last()
    assert path is not None
    progress = checkpoints.load(model, optimizer, path)
    Checkpoints(folder_of(config, before, after), ranks).save(model, optimizer, progress)
    return Outcome(predictions=run.predictions(), losses=run.steps(MORE))
