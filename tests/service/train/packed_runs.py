"""Training of packed tables on ranks, for spawned processes, and the same in float64 without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.embeddings.base import FieldEmbeddings
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


class UnpackedEmbeddings(FieldEmbeddings):
    """Every table a matrix of its own rows and width, read one id at a time."""

    def __init__(self, plan: SizingPlan, start: State, pooling: str) -> None:
        super().__init__()
        self.field_names = tuple(plan.fields)
        self.field_dims = (plan.out_dim,) * len(plan.fields)
        self.out_dim = plan.out_dim
        self.pooling = pooling
        self.of_field = {
            field: [table for table in plan.tables() if table.field == field]
            for field in plan.fields
        }
        self.weights = _doubles(start.tables)
        self.projections = _doubles(start.projections)

    def forward(self, ids: Mapping[str, Sequence[Sequence[int]]]) -> Tensor:
        """The fields side by side."""
        return torch.cat(
            [torch.stack([self._vector(name, bag) for bag in ids[name]]) for name in ids], dim=1
        )

    def _vector(self, field: str, bag: Sequence[int]) -> Tensor:
        vector = torch.zeros(self.out_dim, dtype=torch.float64)
        for value in bag:
            table = next(
                t for t in self.of_field[field] if t.first_id <= value < t.first_id + t.num_ids
            )
            row = self.weights[table.name][(value - table.first_id) % table.num_embeddings]
            if table.name in self.projections:
                row = row @ self.projections[table.name]
            vector = vector + row
        return vector / max(1, len(bag)) if self.pooling == "mean" else vector


def train_unpacked(config: TrainConfig, start: State) -> tuple[State, list[float]]:
    """The same training without packing, sharding, fused kernels, hashing and single precision."""
    info = read_dataset_info(config.data)
    plan = read_sizing(config.sizing).plan
    embeddings = UnpackedEmbeddings(plan, start, config.pooling)
    network = config.network.build(embeddings, len(info.dense)).double()
    network.load_state_dict(
        {
            name.removeprefix("network."): torch.tensor(array)
            for name, array in start.dense.items()
            if name.startswith("network.")
        },
        strict=False,
    )
    tables = list(embeddings.weights.values())
    rest = [p for p in network.parameters() if not any(p is table for table in tables)]
    lr, eps = config.optimizer.sparse_lr, config.optimizer.eps
    optimizers = [
        torch.optim.SGD(tables, lr=lr)
        if config.optimizer.sparse == "sgd"
        else torch.optim.Adagrad(tables, lr=lr, eps=eps),
        torch.optim.Adam(rest, lr=config.optimizer.dense_lr, eps=eps),
    ]
    losses = []
    for dense, ids, labels in _raw_batches(config):
        for optimizer in optimizers:
            optimizer.zero_grad()
        logits = network(dense, ids) + float(start.dense["constant"])
        loss = binary_cross_entropy_with_logits(logits, labels)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    end = State(
        tables=_arrays(embeddings.weights),
        projections=_arrays(embeddings.projections),
        dense={
            f"network.{name}": array
            for name, array in _arrays(dict(network.named_parameters())).items()
            if not name.startswith("embeddings.")
        },
        padding={},
    )
    return end, losses


def _raw_batches(config: TrainConfig) -> list[tuple[Tensor, dict[str, list[list[int]]], Tensor]]:
    """The batches of a run with ids as the data has them, through a plan that changes none."""
    info = read_dataset_info(config.data)
    whole = SizingPlan.one_block_each(
        info.field_stats, {stats.name: 4 for stats in info.field_stats}, out_dim=4
    )
    loader = Loader(config.data, info, "train", whole, batch_size=GLOBAL_BATCH, seed=config.seed)
    return [
        (
            batch.dense.double(),
            {
                name: [part.tolist() for part in bags.values().split(bags.lengths().tolist())]
                for name, bags in batch.features.to_dict().items()
            },
            batch.labels.double(),
        )
        for batch in loader.batches()
    ]


def _doubles(arrays: Mapping[str, Array]) -> nn.ParameterDict:
    return nn.ParameterDict(
        {name: nn.Parameter(torch.tensor(array).double()) for name, array in arrays.items()}
    )


def _arrays(weights: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: weight.detach().float().numpy() for name, weight in weights.items()}
