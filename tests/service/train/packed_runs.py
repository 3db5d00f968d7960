"""Training of packed tables by the real engine, importable by spawned processes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.embeddings.mixed import WidthUnifier
from models.embeddings.packed import unpack
from models.layers.linear import set_matmul
from models.networks import DLRMNetwork
from models.tables import Block, SizingPlan, Table
from service.checkpoint import Checkpoints, Progress
from service.config import TrainConfig
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.distributed import Ranks, joined_ranks
from service.sizing import SizingFile, read_sizing, write_sizing
from service.train.engine import Engine, build_engine
from service.train.record import held_bytes
from tests.datasets import write_dataset

Array = npt.NDArray[np.float32]

BLOCKS = {
    "C1": [(41, 2, 0)],
    "C2": [(7, 1, 0)],
    "C3": [(40, 8, 0), (63, 2, 0), (98, 1, 99)],
    "C4": [(101, 4, 0), (33, 2, 366)],
    "C5": [(29, 1, 0)],
    "C6": [(13, 2, 17)],
    "C7": [(11, 4, 19)],
}
"""Rows, width and hashed ids of every field's blocks; C4 and C5 are lists."""
LISTS = ("C4", "C5")
GLOBAL_BATCH = 32
STEPS = 12


def make_packed_run(folder: Path, **changes: object) -> TrainConfig:
    """Write a dataset and a plan of every width, cut, hashed and whole; configure a run."""
    ids = [sum(n + hashed for n, _, hashed in blocks) for blocks in BLOCKS.values()]
    rows = {"train": GLOBAL_BATCH * STEPS, "validation": 100, "test": 100}
    write_dataset(folder / "data", num_embeddings=ids, list_fields=LISTS, rows=rows)
    fields = {
        name: tuple(
            Block(num_embeddings=n, embedding_dim=d, asked_dim=d, hashed_ids=hashed)
            for n, d, hashed in blocks
        )
        for name, blocks in BLOCKS.items()
    }
    write_sizing(SizingFile(format_version=1, fields=fields, out_dim=8), folder / "sizing.json")
    settings: dict[str, object] = {
        "data": folder / "data",
        "sizing": folder / "sizing.json",
        "output": folder / "run",
        "network": DLRMNetwork(bottom=(8,), top=(8,)),
        "batch_size": GLOBAL_BATCH,
        "matmul": "mkl",
        "table_init": "xavier",
    }
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """All weights of a model; tables as if none were packed, projections by table."""

    tables: dict[str, Array]
    projections: dict[str, Array]
    dense: dict[str, Array]
    padding: dict[str, Array]
    """What is over in the last stored row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a few steps of training did."""

    before: State
    after: State
    losses: list[float]
    """Mean loss of the global batch, by step."""
    held_bytes: dict[str, int]
    """Weights and optimizer state by table, over all ranks."""


def train_all(configs: Sequence[TrainConfig]) -> list[Trained]:
    """Train each configuration by the real engine and pipeline, and keep a checkpoint of it."""
    with joined_ranks("cpu") as ranks:
        set_matmul("mkl")
        return [_train(config, ranks) for config in configs]


def _train(config: TrainConfig, ranks: Ranks) -> Trained:
    config = replace(config, batch_size=GLOBAL_BATCH // ranks.world_size)
    info = read_dataset_info(config.data)
    plan = read_sizing(config.sizing).plan
    engine = build_engine(config, info, plan, ranks)
    before = _state(engine, plan, ranks)
    loader = Loader(
        config.data,
        info,
        "train",
        plan,
        batch_size=config.batch_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        seed=config.seed,
    )
    pipeline = TrainPipelineSparseDist(engine.model, engine.optimizer, ranks.device)
    engine.model.train()
    batches = loader.batches()
    losses = []
    for _ in range(STEPS):
        loss, _, _ = pipeline.progress(batches)
        losses.append(ranks.sums(float(loss))[0] / ranks.world_size)
    assert len(pipeline._pipelined_modules) == 1  # ids are exchanged a step ahead
    checkpoints = Checkpoints(config.output / "checkpoints", ranks)
    checkpoints.save(engine.model, engine.optimizer, Progress(step=STEPS))
    held = ranks.gather(held_bytes(engine))
    return Trained(
        before=before,
        after=_state(engine, plan, ranks),
        losses=losses,
        held_bytes={
            table.name: sum(of_rank.get(table.name, 0) for of_rank in held)
            for table in plan.tables()
        },
    )


def load_all(configs: Sequence[TrainConfig]) -> list[State]:
    """The weights of each configuration's checkpoint, in a model sharded as it says."""
    with joined_ranks("cpu") as ranks:
        states = []
        for config in configs:
            plan = read_sizing(config.sizing).plan
            engine = build_engine(config, read_dataset_info(config.data), plan, ranks)
            checkpoints = Checkpoints(config.output / "checkpoints", ranks)
            path = checkpoints.last()
            assert path is not None
            checkpoints.load(engine.model, engine.optimizer, path)
            states.append(_state(engine, plan, ranks))
        return states


def _state(engine: Engine, plan: SizingPlan, ranks: Ranks) -> State:
    weights = dict(engine.model.state_dict())
    prefix = "network.embeddings.tables.embedding_bags."
    stored = {
        table.name: _whole(weights.pop(f"{prefix}{table.name}.weight"), table.stored, ranks)
        for table in plan.tables()
    }
    # Copies: `numpy` shares memory with the weights that go on being trained.
    dense = {name: weight.detach().numpy().copy() for name, weight in weights.items()}
    return State(
        tables={t.name: unpack(stored[t.name], t).numpy() for t in plan.tables()},
        padding={
            t.name: stored[t.name].flatten()[t.num_embeddings * t.embedding_dim :].numpy()
            for t in plan.tables()
        },
        projections={
            name: dense[f"network.embeddings.unify.projections.{index}"][position]
            for index, names in enumerate(narrow_tables(plan))
            for position, name in enumerate(names)
        },
        dense={name: array for name, array in dense.items() if ".unify." not in name},
    )


def narrow_tables(plan: SizingPlan) -> list[list[str]]:
    unify = WidthUnifier(list(plan.tables()), [plan.out_dim] * len(plan.fields))
    return [names for _, names in unify.narrow_tables]


def _whole(weight: Tensor | ShardedTensor, stored: Table, ranks: Ranks) -> Tensor:
    """A table from the shards of all ranks."""
    if not isinstance(weight, ShardedTensor):
        return weight.detach().clone()
    whole = torch.full((stored.num_embeddings, stored.embedding_dim), torch.nan)
    local = [(s.metadata.shard_offsets, s.tensor.detach().clone()) for s in weight.local_shards()]
    for shards in ranks.gather(local):
        for (row, column), values in shards:
            whole[row : row + len(values), column : column + values.shape[1]] = values
    return whole
