"""Training by the real engine under every sharding, importable by spawned processes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.embeddings.packed import unpack
from models.embeddings.unifier import WidthUnifier
from models.layers.linear import set_matmul
from models.networks import DLRMNetwork
from models.tables import Block, SizingPlan, Table
from service.checkpoint import Checkpoints, Progress
from service.checkpoint.optimizer_state import TABLES, OptimizerState, OptimizerView
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
    "C8": [(23, 16, 0)],
}
"""Rows, width and hashed ids of every field's blocks; C4 and C5 are lists. Widths of 1 and 2 are
packed; of 8 and 16 columns can be cut; two and more stored rows a rank can be cut, fewer not."""
LISTS = ("C4", "C5")
GLOBAL_BATCH = 32
STEPS = 10


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
    write_sizing(SizingFile(format_version=1, fields=fields, out_dim=16), folder / "sizing.json")
    settings: dict[str, object] = {
        "data": folder / "data",
        "sizing": folder / "sizing.json",
        "output": folder / "run",
        "network": DLRMNetwork(bottom=(16,), top=(8,)),
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
    optimizer: dict[str, dict[str, Array]]
    """What the optimizer remembers of a table, by its name in a checkpoint; of stored rows where it
    is a number a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a few steps of training did."""

    before: State
    after: State
    predictions: Array
    """Of the first step's examples: the forward pass from the first weights."""
    losses: list[float]
    """Mean loss of the global batch, by step."""
    held_bytes: dict[str, int]
    """Weights and optimizer state by table, over all ranks."""
    kinds: dict[str, str]
    """Sharding type that a table was given."""


def train_all(configs: Sequence[TrainConfig], ranks_per_host: int = 0) -> list[Trained]:
    """Train each configuration by the real engine and pipeline, and keep a checkpoint of it.

    Args:
        configs: Runs of one device.
        ranks_per_host: Ranks that are to believe that they share a host, where not all do.
    """
    if ranks_per_host:
        os.environ["LOCAL_WORLD_SIZE"] = str(ranks_per_host)
    with joined_ranks(configs[0].device) as ranks:
        set_matmul("mkl")
        return [_train(config, ranks) for config in configs]


def _train(config: TrainConfig, ranks: Ranks) -> Trained:
    config = replace(config, batch_size=GLOBAL_BATCH // ranks.world_size)
    info = read_dataset_info(config.data)
    plan = read_sizing(config.sizing).plan
    engine = build_engine(config, info, plan, ranks)
    before = _weights(engine, plan, ranks)  # asking for the optimizer's would start it
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
    losses, predictions = [], []
    for _ in range(STEPS):
        loss, predicted, _ = pipeline.progress(batches)
        losses.append(ranks.sums(float(loss))[0] / ranks.world_size)
        predictions.append(predicted.detach().cpu().numpy())
    assert len(pipeline._pipelined_modules) == 1  # ids are exchanged a step ahead
    checkpoints = Checkpoints(config.output / "checkpoints", ranks)
    checkpoints.save(engine.model, engine.optimizer, Progress(step=STEPS))
    held = ranks.gather(held_bytes(engine))
    return Trained(
        before=before,
        after=_state(engine, plan, ranks),
        predictions=np.concatenate(ranks.gather(predictions[0])),
        losses=losses,
        kinds={table.name: table.sharding_type for table in engine.placement.tables},
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
    optimizer = _optimizer_state(engine, plan, ranks)
    return replace(_weights(engine, plan, ranks), optimizer=optimizer)


def _weights(engine: Engine, plan: SizingPlan, ranks: Ranks) -> State:
    weights = dict(engine.model.state_dict())
    prefix = "network.embeddings.tables.embedding_bags."
    stored = {
        table.name: _whole(weights.pop(f"{prefix}{table.name}.weight"), ranks)
        for table in plan.tables()
    }
    # Copies: `numpy` shares memory with the weights that go on being trained.
    dense = {name: weight.detach().cpu().numpy().copy() for name, weight in weights.items()}
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
        optimizer={},
    )


def _optimizer_state(engine: Engine, plan: SizingPlan, ranks: Ranks) -> dict[str, dict[str, Array]]:
    """What is stored of the optimizer, by table, gathered whole."""
    held = OptimizerView(engine.model, engine.optimizer).state
    tables = {table.name: table for table in plan.tables()}
    of_ranks = ranks.gather(
        {
            key.rpartition(TABLES)[2].removesuffix(".weight"): sorted(of_weight)
            for key, of_weight in held.items()
            if TABLES in key
        }
    )
    names = {table: names for of_rank in of_ranks for table, names in of_rank.items()}
    prefix = f"network.embeddings.tables{TABLES}"
    return {
        name: {
            state: _logical(_whole(_of(held, f"{prefix}{name}.weight", state), ranks), table)
            for state in names.get(name, ())
            if state != "step"
        }
        for name, table in tables.items()
    }


def _of(held: OptimizerState, key: str, state: str) -> Tensor | ShardedTensor | None:
    return held.get(key, {}).get(state)


def _logical(state: Tensor, table: Table) -> Array:
    """As the rows of an unpacked table, unless it is a number a stored row."""
    is_elementwise = state.dim() == 2 and state.shape[1] == table.stored.embedding_dim
    return (unpack(state, table) if is_elementwise else state).cpu().numpy()


def narrow_tables(plan: SizingPlan) -> list[list[str]]:
    unify = WidthUnifier(list(plan.tables()), [plan.out_dim] * len(plan.fields))
    return [names for _, names in unify.narrow_tables]


def _whole(value: Tensor | ShardedTensor | None, ranks: Ranks) -> Tensor:
    """A matrix from the shards of all ranks; a rank without any has None."""
    if isinstance(value, ShardedTensor):
        local = [(s.metadata.shard_offsets, s.tensor.detach().cpu()) for s in value.local_shards()]
        mine = list(value.metadata().size), local
    else:
        mine = None if value is None else (list(value.shape), [([0, 0], value.detach().cpu())])
    found = [of_rank for of_rank in ranks.gather(mine) if of_rank is not None]
    whole = torch.full(found[0][0], torch.nan)
    for _, shards in found:
        for (row, column), values in shards:
            whole[row : row + len(values), column : column + values.shape[1]] = values
    return whole
