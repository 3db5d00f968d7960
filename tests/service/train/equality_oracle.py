"""Training in float64 with tables neither packed, sharded nor fused: the oracle of equality."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.tables import SizingPlan, Table
from service.config import TrainConfig
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.sizing import read_sizing
from tests.service.train.equality_runs import GLOBAL_BATCH, Array, State


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

    def forward(self, ids: Mapping[str, Sequence[Sequence[int]]]) -> FieldVectors:
        """The fields side by side."""
        vectors = [torch.stack([self._vector(name, bag) for bag in ids[name]]) for name in ids]
        return FieldVectors(torch.cat(vectors, dim=1))

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


class SharedRowAdagrad(torch.optim.Optimizer):
    """Row-wise Adagrad whose accumulator the rows of a stored row share, as documented."""

    def __init__(
        self, weights: Sequence[nn.Parameter], *, tables: Sequence[Table], lr: float, eps: float
    ) -> None:
        super().__init__(weights, {})
        self.weights, self.tables, self.lr, self.eps = weights, tables, lr, eps
        self.sums = [torch.zeros(t.stored.num_embeddings, dtype=torch.float64) for t in tables]

    @torch.no_grad()
    def step(self) -> None:
        for weight, table, sums in zip(self.weights, self.tables, self.sums, strict=True):
            if weight.grad is None:
                continue
            k, n = table.packing, table.num_embeddings
            for row in range(n):
                sums[row // k] += weight.grad[row].square().mean() / k
            for row in range(n):
                weight[row] -= self.lr * weight.grad[row] / (sums[row // k].sqrt() + self.eps)


def train_unpacked(config: TrainConfig, start: State) -> tuple[State, list[float], Array]:
    """The same training without packing, sharding, fused kernels, hashing and single precision.

    Returns:
        The end, the losses of all steps, and the predictions of the first one.
    """
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
    tables = [embeddings.weights[table.name] for table in plan.tables()]
    rest = [p for p in network.parameters() if not any(p is table for table in tables)]
    eps = config.optimizer.eps
    build = {
        "sgd": torch.optim.SGD,
        "adagrad": partial(torch.optim.Adagrad, eps=eps),
        "adam": partial(torch.optim.Adam, eps=eps),
        "amsgrad": partial(torch.optim.Adam, eps=eps, amsgrad=True),
        "rowwise_adagrad": partial(SharedRowAdagrad, tables=list(plan.tables()), eps=eps),
    }[config.optimizer.sparse]
    optimizers = [
        build(tables, lr=config.optimizer.sparse_lr),
        torch.optim.Adam(rest, lr=config.optimizer.dense_lr, eps=eps),
    ]
    losses, predictions = [], []
    for dense, ids, labels in _raw_batches(config):
        for optimizer in optimizers:
            optimizer.zero_grad()
        logits = network(dense, ids) + float(start.dense["constant"])
        loss = binary_cross_entropy_with_logits(logits, labels)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        predictions.append(logits.detach().sigmoid().numpy())
    end = State(
        tables=_arrays(embeddings.weights),
        projections=_arrays(embeddings.projections),
        dense={
            f"network.{name}": array
            for name, array in _arrays(dict(network.named_parameters())).items()
            if not name.startswith("embeddings.")
        },
        padding={},
        optimizer={
            table.name: _remembered(optimizers[0], weight)
            for table, weight in zip(plan.tables(), tables, strict=True)
        },
    )
    return end, losses, predictions[0]


def _remembered(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> dict[str, Array]:
    """What the oracle's optimizer keeps of a table."""
    if isinstance(optimizer, SharedRowAdagrad):
        owner = next(i for i, other in enumerate(optimizer.weights) if other is weight)
        return {"sum": optimizer.sums[owner][:, None].numpy()}
    state = optimizer.state[weight]
    return {
        name: value.numpy()
        for name, value in state.items()
        if name != "step" and torch.is_tensor(value)
    }


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
