"""Searches by the real engine, looked at between the steps; importable by spawned processes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.embeddings.choice import Alternation
from models.embeddings.choices import AutoDimChoice
from models.layers.linear import set_matmul
from models.networks import FMNetwork
from models.turn import Turn
from service.checkpoint import Progress, StoredTensors, last_checkpoint
from service.checkpoint.optimizer_state import OptimizerView
from service.config import TrainConfig
from service.data.batch import Batch
from service.data.dataset import read_dataset_info
from service.distributed import joined_ranks, launch
from service.sizing import read_sizing, write_sizing
from service.train.engine import build_engine
from service.train.loop import train
from service.train.run_data import RunData
from service.train.turns import Pipeline, Turns
from tests.service.train.runs import make_run, sharded

CANDIDATES = (2, 8, 16)
SEARCH = AutoDimChoice(candidates=CANDIDATES, alternation=Alternation(weight_steps=3, lr=0.05))

State = Mapping[str, Tensor]


def make_search(folder: Path, **changes: object) -> TrainConfig:
    """A dataset, a plan of 16 columns a field, and a search among 2, 8 and 16."""
    config = make_run(folder, **({"network": FMNetwork(), "embeddings": SEARCH} | changes))
    sizing = read_sizing(config.sizing)
    wide = {
        name: (replace(blocks[0], num_embeddings=rows, embedding_dim=16, asked_dim=16),)
        for (name, blocks), rows in zip(sizing.fields.items(), (40, 7, 300, 500), strict=True)
    }
    write_sizing(replace(sizing, fields=wide), config.sizing)
    return config


ODD_ROWS = {"train": 1001, "validation": 131, "test": 33}
"""Splits of odd numbers of rows, so that shares of two ranks are padded."""


def weights_of(config: TrainConfig) -> dict[str, NDArray[Any]]:
    """Everything that a run's last checkpoint holds, by name."""
    path = last_checkpoint(config.output / "checkpoints")
    assert path is not None
    stored = StoredTensors(path)
    return {name: stored.read(name) for name in sorted(stored.shapes)}


def learned_on_one_and_two_ranks(config: TrainConfig) -> dict[str, NDArray[Any]]:
    """Weights of a training on one rank, which another one of the same batches on two has, too."""
    launch(train, config, nproc=1, name="one")
    halves = replace(config, output=config.output.with_name("two"), batch_size=64, nproc=2)
    launch(train, halves, nproc=2, name="two")
    one, two = weights_of(config), weights_of(halves)
    for name, value in one.items():
        if name.startswith("model."):
            assert two[name] == pytest.approx(value, abs=1e-5), name
    return one


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What a few steps did."""

    changed: list[tuple[Turn, list[str]]] = field(default_factory=list)
    """Of every step, what of weights and optimizer state is not what it was, by name."""
    names: list[str] = field(default_factory=list)
    """All there is."""
    read: list[tuple[bool, Tensor]] = field(default_factory=list)
    """Of every step, whether weights moved, and the dense columns of its examples."""


class _Watched(Turns):
    """Looks at everything after every step."""

    def watch(self, model: torch.nn.Module, seen: Search) -> None:
        self.model, self.seen = model, seen
        self.before = self._state()
        seen.names.extend(self.before)

    def look(self, turn: Turn) -> None:
        after = self._state()
        changed = [name for name, value in after.items() if not self._is_same(name, value)]
        self.seen.changed.append((turn, changed))
        self.before = after

    def step(self, pipeline: Pipeline, batches: Iterator[Batch], progress: Progress) -> Tensor:
        self.has_moved_architecture = False
        loss = super().step(pipeline, batches, progress)
        if not self.has_moved_architecture:
            self.look(self._optimizer.turn)
        return loss

    def _move_architecture(self, turn: Turn, pipeline: Pipeline, batches: Iterator[Batch]) -> None:
        self.look(self._optimizer.turn)
        super()._move_architecture(turn, pipeline, batches)
        self.look(turn)
        self.has_moved_architecture = True

    def _state(self) -> dict[str, Tensor]:
        view = OptimizerView(self.model, self._optimizer)
        state = {f"{key}: {name}": v for key, own in view.state.items() for name, v in own.items()}
        return {
            name: torch.cat([part.reshape(-1) for part in parts]).clone()
            for name, value in (self.model.state_dict() | state).items()
            if (parts := _local(value))
        }

    def _is_same(self, name: str, value: Tensor) -> bool:
        return torch.equal(self.before[name], value)


def _local(value: Tensor | ShardedTensor) -> Sequence[Tensor]:
    if isinstance(value, ShardedTensor):
        return [shard.tensor.detach() for shard in value.local_shards()]
    return [value.detach()]


def search(config: TrainConfig, steps: int) -> Search:
    """Take some steps on the ranks that this process is one of; what the first rank saw."""
    with joined_ranks("cpu") as ranks:
        set_matmul("mkl")
        info, plan = read_dataset_info(config.data), read_sizing(config.sizing).plan
        engine = build_engine(config, info, plan, ranks)
        data = RunData(config, info, config.embeddings.layout(plan), ranks)
        turns, seen, progress = (
            _Watched(config, data, engine.model, engine.optimizer, ranks.device),
            Search(),
            Progress(),
        )
        turns.watch(engine.model, seen)
        pipeline = TrainPipelineSparseDist(engine.model, engine.optimizer, ranks.device)
        engine.model.train()
        task = next(m for m in engine.model.modules() if type(m).__name__ == "TrainTask")
        task.register_forward_pre_hook(
            lambda _, given: seen.read.append(
                (engine.optimizer.turn.moves_weights, given[0].dense.clone())
            )
        )
        batches = turns.batches(progress)
        for batch in range(steps):
            turns.step(pipeline, batches, progress)
            progress.step += 1
            progress.batch += 1
            progress.num_examples += data.train.size_of_batch(batch)
        return seen


def search_each(config: TrainConfig, cases: Sequence[tuple[str, str]], steps: int) -> list[Search]:
    """The same with every table under one sharding type and optimizer after the other."""
    with joined_ranks("cpu"):
        return [search(replace(config, **sharded(*case)), steps) for case in cases]
