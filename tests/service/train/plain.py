"""The same training without ranks, kernels, packing or single precision: the engine's oracle."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.embeddings.vectors import FieldVectors
from models.layers.linear import set_matmul
from models.tables import Block, SizingPlan, Table
from service.checkpoint import Progress
from service.config import TrainConfig
from service.data.batch import Batch
from service.data.dataset import DatasetInfo, read_dataset_info
from service.data.loader import Loader
from service.distributed import Ranks, joined_ranks
from service.train.engine import Engine, build_engine, build_task
from service.train.rates import Rates
from service.train.task import TrainTask

Weights = dict[str, npt.NDArray[np.float64]]
Penalty = Callable[[dict[str, Tensor], Batch], Tensor]
"""Of the projected vectors of a batch by field, ``(B, D)`` each, and of its ids by field."""

SHARES: dict[str, Callable[[float], float]] = {
    "plateau": lambda _done: 1.0,
    "constant": lambda _done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: math.cos(math.pi / 2 * done) ** 2,
}
TABLES = "network.embeddings.tables.embedding_bags."
PROJECTIONS = "network.embeddings.unify.projections."


def train_sharded(config: TrainConfig, plan: SizingPlan, steps: int) -> tuple[Weights, Weights]:
    """Weights before and after some steps of the engine, put together from all ranks."""
    with joined_ranks("cpu") as ranks:
        set_matmul("mkl")
        engine = build_engine(config, read_dataset_info(config.data), plan, ranks)
        engine.model.train()
        before = whole_weights(engine, plan, ranks)
        batches = loader_of(config, plan, ranks).batches()
        pipeline = TrainPipelineSparseDist(engine.model, engine.optimizer, ranks.device)
        rates = Rates(engine.optimizer, config.optimizer, Progress(), total_steps=steps)
        for _ in range(steps):
            pipeline.progress(batches)
            rates.step()
        pipeline.detach()
        return before, whole_weights(engine, plan, ranks)


def whole_weights(engine: Engine, plan: SizingPlan, ranks: Ranks) -> Weights:
    """Every weight of a sharded model; tables as their own rows, packed or not."""
    state = engine.model.state_dict()
    pieces: dict[str, list[tuple[list[int], npt.NDArray[np.float32]]]] = {}
    for name, weight in state.items():
        if hasattr(weight, "local_shards"):
            shards = [(s.metadata.shard_offsets, s.tensor) for s in weight.local_shards()]
        else:
            shards = [([0] * weight.dim(), weight)]
        pieces[name] = [(list(at), tensor.detach().numpy()) for at, tensor in shards]
    whole: Weights = {name: np.full(_shape(weight), np.nan) for name, weight in state.items()}
    for of_rank in ranks.gather(pieces):
        for name, shards in of_rank.items():
            for at, part in shards:
                where = tuple(slice(a, a + n) for a, n in zip(at, part.shape, strict=True))
                whole[name][where] = part
    for table in plan.tables():
        stored = whole[f"{TABLES}{table.name}.weight"].reshape(-1, table.embedding_dim)
        whole[f"{TABLES}{table.name}.weight"] = stored[: table.num_embeddings]
    return whole


def _shape(weight: Any) -> tuple[int, ...]:
    return tuple(weight.metadata().size if hasattr(weight, "metadata") else weight.size())


def train_plainly(
    config: TrainConfig,
    plan: SizingPlan,
    steps: int,
    start: Weights,
    penalty: Penalty | None = None,
) -> Weights:
    """Weights after some steps of the whole batch in float64, by loops over the formulas."""
    info = read_dataset_info(config.data)
    task = build_task(config, info, plan, device=torch.device("cpu"), tables_on="meta").double()
    weights = {name: torch.tensor(weight, requires_grad=True) for name, weight in start.items()}
    constant = weights.pop("constant")
    task.network.embeddings = WithoutTables(plan)  # type: ignore[assignment]
    rules = {
        name: Moving(weight, config.optimizer.sparse, config.optimizer.sparse_lr)
        if name.startswith(TABLES)
        else Moving(weight, "adam", config.optimizer.dense_lr)
        for name, weight in weights.items()
    }
    for done, batch in zip(range(steps), loader_of(config, raw_plan(info)).batches(), strict=False):
        fields = {name: look_up(name, batch, plan, weights) for name in plan.fields}
        loss = _score_and_compare(task, batch, fields, weights, constant)
        if penalty is not None:
            loss = loss + penalty(fields, batch)
        gradients = torch.autograd.grad(loss, [rule.weight for rule in rules.values()])
        for rule, gradient in zip(rules.values(), gradients, strict=True):
            rule.step(
                gradient, config.optimizer.eps, SHARES[config.optimizer.schedule](done / steps)
            )
    return {name: weight.detach().numpy() for name, weight in weights.items()}


class WithoutTables(torch.nn.Module):
    """What a network asks of its embeddings besides vectors."""

    def __init__(self, plan: SizingPlan) -> None:
        super().__init__()
        self.field_names, self.out_dim = tuple(plan.fields), plan.out_dim
        self.field_dims = (plan.out_dim,) * len(plan.fields)


def raw_plan(info: DatasetInfo) -> SizingPlan:
    """One table a field: its features are the fields' ids as they are."""
    return SizingPlan(
        fields={
            field.name: (Block(num_embeddings=field.num_embeddings, embedding_dim=4, asked_dim=4),)
            for field in info.field_stats
        },
        out_dim=4,
    )


def look_up(name: str, batch: Batch, plan: SizingPlan, weights: dict[str, Tensor]) -> Tensor:
    """Projected vectors of a field, ``(B, D)``: a sum over ids of a row times its projection."""
    bags = batch.features[name]
    example = torch.repeat_interleave(torch.arange(len(batch.labels)), bags.lengths())
    vectors = torch.zeros(len(batch.labels), plan.out_dim, dtype=torch.float64)
    for table in plan.tables():
        if table.field != name:
            continue
        rows = bags.values() - table.first_id
        here = (rows >= 0) & (rows < table.num_ids)
        found = weights[f"{TABLES}{table.name}.weight"][rows[here] % table.num_embeddings]
        projected = found @ projection_of(table, plan, weights)
        vectors = vectors.index_add(0, example[here], projected)
    return vectors


def projection_of(table: Table, plan: SizingPlan, weights: dict[str, Tensor]) -> Tensor:
    """``(d, D)``; the identity where a table is as wide as the model."""
    if table.embedding_dim == plan.out_dim:
        return torch.eye(plan.out_dim, dtype=torch.float64)
    narrow = [other for other in plan.tables() if other.embedding_dim < plan.out_dim]
    widths = list(dict.fromkeys(other.embedding_dim for other in narrow))
    alike = [other.name for other in narrow if other.embedding_dim == table.embedding_dim]
    stacked = weights[f"{PROJECTIONS}{widths.index(table.embedding_dim)}"]
    return stacked[alike.index(table.name)]


def _score_and_compare(
    task: TrainTask,
    batch: Batch,
    fields: dict[str, Tensor],
    weights: dict[str, Tensor],
    constant: Tensor,
) -> Tensor:
    """Mean of ``log(1 + e^s) - y s`` over the batch."""

    class Score(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = task.network

        def forward(self) -> Tensor:
            vectors = FieldVectors(torch.cat(list(fields.values()), dim=1))
            return self.network.score(batch.dense.double(), vectors)

    dense = {name: weight for name, weight in weights.items() if ".embeddings." not in name}
    scores = torch.func.functional_call(Score(), dense, ()) + constant
    return (torch.log1p(torch.exp(scores)) - batch.labels * scores).mean()


@dataclass
class Moving:
    """A weight and what its optimizer remembers; the formulas of the papers."""

    weight: Tensor
    rule: str
    rate: float
    steps: int = 0

    def __post_init__(self) -> None:
        self.first, self.second, self.largest = (torch.zeros_like(self.weight) for _ in range(3))

    @torch.no_grad()
    def step(self, gradient: Tensor, eps: float, share: float) -> None:
        """Move once, by a share of the rate."""
        self.steps += 1
        rate = share * self.rate
        if self.rule == "sgd":
            self.weight -= rate * gradient
            return
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        self.largest = torch.maximum(self.largest, self.second)
        second = self.largest if self.rule == "amsgrad" else self.second
        denominator = torch.sqrt(second / (1 - 0.999**self.steps)) + eps
        self.weight -= rate * self.first / (1 - 0.9**self.steps) / denominator


def loader_of(config: TrainConfig, plan: SizingPlan, ranks: Ranks | None = None) -> Loader:
    """The training split's batches, a rank's share or all of them."""
    info = read_dataset_info(config.data)
    rank, world_size = (ranks.rank, ranks.world_size) if ranks else (0, 1)
    return Loader(
        config.data,
        info,
        "train",
        plan,
        batch_size=config.batch_size,
        rank=rank,
        world_size=world_size,
        seed=config.seed,
        l2_power=config.l2_power if config.is_regularised else 0.0,
    )
