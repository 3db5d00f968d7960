"""TorchRec without the product: `DistributedModelParallel` by its own planner, one rank."""

# Shapes:  B batch, F fields, D width

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.optim import (
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)
from torch.nn.functional import binary_cross_entropy_with_logits
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.datasets.utils import Batch
from torchrec.distributed import DistributedModelParallel, TrainPipelineSparseDist
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from service.bench.peers.loops import tensors
from service.bench.peers.task import Clock, Predict, RaceTask, TimeIsUp, take_part
from service.bench.plain import network_of

SPARSE_LR = 0.05
"""The same as the product's default."""


class Ctr(nn.Module):
    """An `EmbeddingBagCollection` below a plain network, with its loss."""

    def __init__(self, task: RaceTask) -> None:
        super().__init__()
        fields = task.num_embeddings
        self.names = list(fields)
        self.tables = EmbeddingBagCollection(
            device=torch.device("meta"),
            tables=[
                EmbeddingBagConfig(
                    name=name, embedding_dim=task.dim, num_embeddings=rows, feature_names=[name]
                )
                for name, rows in fields.items()
            ],
        )
        self.network = network_of(task.network, len(fields), task.dim, len(task.dense_names))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss, and logits without gradients."""
        pooled = self.tables(batch.sparse_features).to_dict()  # in plan order once sharded
        fields = torch.cat([pooled[name] for name in self.names], dim=1)
        logits = self.network(batch.dense_features, fields)
        return binary_cross_entropy_with_logits(logits, batch.labels), logits.detach()


def train(task: RaceTask, clock: Clock) -> Predict:
    """The pipeline of TorchRec's own examples."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    labels, dense, ids = tensors(task.read("train"))
    model = _sharded(task)
    pipeline: TrainPipelineSparseDist[Batch, Tensor] = TrainPipelineSparseDist(
        model, _optimizer(model), torch.device("cpu")
    )
    order = torch.split(torch.randperm(len(labels)), task.batch_size)
    names = list(task.num_embeddings)
    batches = (_batch(names, labels[rows], dense[rows], ids[rows]) for rows in order)
    with suppress(StopIteration, TimeIsUp):
        while True:
            pipeline.progress(batches)
            clock.step()

    @torch.no_grad()
    def predict() -> Iterator[Tensor]:
        pipeline.detach()
        split = (torch.split(part, task.batch_size) for part in tensors(task.read("test")))
        for parts in zip(*split, strict=True):
            yield torch.sigmoid(model(_batch(names, *parts))[1])

    return lambda: torch.cat(list(predict())).numpy()


def _sharded(task: RaceTask) -> DistributedModelParallel:
    ctr = Ctr(task)
    apply_optimizer_in_backward(RowWiseAdagrad, ctr.tables.parameters(), {"lr": SPARSE_LR})
    os.environ.setdefault("MASTER_ADDR", "localhost")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    topology = Topology(world_size=1, compute_device="cpu", local_world_size=1)
    sharders = [EmbeddingBagCollectionSharder()]
    planner = EmbeddingShardingPlanner(topology=topology, batch_size=task.batch_size)
    group = dist.group.WORLD
    assert group is not None
    plan = planner.collective_plan(ctr, sharders, group)  # type: ignore[arg-type]
    return DistributedModelParallel(
        ctr,
        device=torch.device("cpu"),
        plan=plan,
        sharders=sharders,  # type: ignore[arg-type]
    )


def _optimizer(model: DistributedModelParallel) -> CombinedOptimizer:
    """Adam for everything that the tables' own optimizer leaves: data-parallel tables, too."""
    left = dict(in_backward_optimizer_filter(model.named_parameters()))
    adam = KeyedOptimizerWrapper(left, partial(torch.optim.Adam, lr=1e-3, fused=True))
    return CombinedOptimizer([model.fused_optimizer, adam])


def _batch(names: list[str], labels: Tensor, dense: Tensor, ids: Tensor) -> Batch:
    features = KeyedJaggedTensor.from_lengths_sync(
        names, ids.t().reshape(-1), torch.ones(ids.numel(), dtype=torch.int32)
    )
    return Batch(dense_features=dense, sparse_features=features, labels=labels)


if __name__ == "__main__":
    take_part(train, ("torchrec", "fbgemm-gpu-cpu", "torch", "numpy"))
