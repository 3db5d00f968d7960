"""The contenders of ``mixdim bench step``: the product, its peers, and the bound.

All read the same batches in the same order and start tables alike. The peers are what a careful
user writes without the product: plain ``nn.Linear`` layers, fused Adam, memory as the C library
handles it.
"""

# Shapes:  B batch, F fields, D width

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Optimizer
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.embeddings.base import FieldEmbeddings
from models.networks import NETWORKS
from models.tables import SizingPlan
from service.bench.options import NetworkName
from service.bench.peer_tables import OPTIMIZER, ConstantFields, DirectTables, StackedTable
from service.bench.plain import network_of
from service.config import TrainConfig
from service.data.batch import Batch
from service.data.dataset import DatasetInfo
from service.distributed import Ranks
from service.train.engine import build_engine
from service.train.task import StepOutput, TrainTask


class Trainer(Protocol):
    """What the benchmark drives."""

    def step(self, batches: Iterator[Batch]) -> None:
        """Train on the next batch; raises `StopIteration` after the last."""

    def predict(self, batch: Batch) -> Tensor:
        """Probabilities ``(B,)``, once training is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a contender builds its trainer from."""

    network: NetworkName
    info: DatasetInfo
    plan: SizingPlan
    ranks: Ranks
    batch_size: int
    bf16: bool
    seed: int


class ProductTrainer:
    """The product's own engine and pipeline, on one rank."""

    def __init__(self, work: Work) -> None:
        config = TrainConfig(
            network=NETWORKS[work.network](),
            optimizer=OPTIMIZER,
            batch_size=work.batch_size,
            seed=work.seed,
            device="cpu",
            precision="bf16" if work.bf16 else "fp32",
        )
        engine = build_engine(config, work.info, work.plan, work.ranks)
        self.model = engine.model
        self.pipeline: TrainPipelineSparseDist[Batch, StepOutput] = TrainPipelineSparseDist(
            engine.model, engine.optimizer, work.ranks.device
        )

    def step(self, batches: Iterator[Batch]) -> None:
        """Train on the next batch."""
        self.pipeline.progress(batches)

    def predict(self, batch: Batch) -> Tensor:
        """Leave the pipeline and score."""
        self.pipeline.detach()
        _, (_, probabilities, _) = self.model(batch)
        return torch.as_tensor(probabilities)


class LocalTrainer:
    """A plain training loop without ranks or pipeline.

    Args:
        scorer: From a batch to logits.
        optimizers: Stepped after every backward pass.
        bf16: Whether matrix products are bf16.
    """

    def __init__(
        self, scorer: nn.Module, optimizers: Sequence[Optimizer], *, bf16: bool = False
    ) -> None:
        self.scorer, self.optimizers, self.bf16 = scorer, optimizers, bf16

    def step(self, batches: Iterator[Batch]) -> None:
        """Forward, backward, update."""
        batch = next(batches)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(self._score(batch), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()

    def predict(self, batch: Batch) -> Tensor:
        """Score without training."""
        return torch.sigmoid(self._score(batch))

    def _score(self, batch: Batch) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.scorer(batch)
        return logits.float()


class OnFields(nn.Module):
    """A plain network on top of anything that looks fields up."""

    def __init__(self, embeddings: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.network = embeddings, network

    def forward(self, batch: Batch) -> Tensor:
        """Look up and score."""
        vectors = self.embeddings(batch.features).side_by_side
        logits: Tensor = self.network(batch.dense, vectors)
        return logits


class OnFeatures(nn.Module):
    """One of the product's networks fed with a batch, from the product's starting point."""

    def __init__(self, network: nn.Module, constant: float) -> None:
        super().__init__()
        self.network, self.constant = network, constant

    def forward(self, batch: Batch) -> Tensor:
        """Score."""
        logits: Tensor = self.network(batch.dense, batch.features)
        return logits + self.constant


def plain_layers(work: Work) -> nn.Module:
    """The peers' network."""
    return network_of(work.network, len(work.plan.fields), work.plan.out_dim, len(work.info.dense))


def stacked(work: Work) -> LocalTrainer:
    """Plain PyTorch: one stacked table with lazy Adam, fused Adam for the layers."""
    table, layers = StackedTable(work.plan), plain_layers(work)
    lazy = torch.optim.SparseAdam(list(table.parameters()), lr=OPTIMIZER.dense_lr)
    return LocalTrainer(OnFields(table, layers), [lazy, _adam(layers.parameters())])


def direct(work: Work) -> LocalTrainer:
    """The FBGEMM kernel below plain layers."""
    layers = plain_layers(work)
    return LocalTrainer(OnFields(DirectTables(work.plan), layers), [_adam(layers.parameters())])


def direct_fast(work: Work) -> LocalTrainer:
    """The FBGEMM kernel below the product's layers: what TorchRec's wrapping costs."""
    return _with_product_layers(DirectTables(work.plan), work)


def layers_alone(work: Work) -> LocalTrainer:
    """The product's layers on constant vectors: the bound."""
    return _with_product_layers(ConstantFields(work.plan, work.batch_size), work)


def _with_product_layers(embeddings: FieldEmbeddings, work: Work) -> LocalTrainer:
    layers = NETWORKS[work.network]().build(embeddings, len(work.info.dense))
    dense = [
        weight for name, weight in layers.named_parameters() if not name.startswith("embeddings.")
    ]
    label_mean = work.info.splits["train"].label_mean
    task = TrainTask(layers, work.info.task, label_mean=label_mean)
    return LocalTrainer(
        OnFeatures(task.network, float(task.constant)), [_adam(dense)], bf16=work.bf16
    )


def _adam(weights: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.Adam(weights, lr=OPTIMIZER.dense_lr, eps=OPTIMIZER.eps, fused=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """A contender and the settings of its process."""

    name: str
    about: str
    build: Callable[[Work], Trainer]
    matmul: Literal["auto", "mkl"] = "auto"
    """fp32 routine of the product's layers; plain layers always use torch's own."""
    bf16: bool = False
    keeps_memory: bool = True
    """Whether freed memory stays in the process, see `service.allocator`."""
    is_bound: bool = False


ENTRANTS: Final = (
    Entrant(name="mixdim-fp32", about="the product", build=ProductTrainer),
    Entrant(name="mixdim-bf16", about="the product, bf16", build=ProductTrainer, bf16=True),
    Entrant(
        name="torch-stacked",
        about="plain PyTorch loop, one stacked sparse table",
        build=stacked,
        keeps_memory=False,
    ),
    Entrant(name="torch-stacked-kept", about="the same, freed memory kept", build=stacked),
    Entrant(
        name="fbgemm-direct",
        about="plain loop around the FBGEMM kernel",
        build=direct,
        keeps_memory=False,
    ),
    Entrant(name="fbgemm-direct-fast", about="FBGEMM kernel, product's layers", build=direct_fast),
    Entrant(
        name="dense-bound-mkl",
        about="product's layers alone, MKL",
        build=layers_alone,
        matmul="mkl",
        is_bound=True,
    ),
    Entrant(
        name="dense-bound-fp32",
        about="product's layers alone, fastest fp32",
        build=layers_alone,
        is_bound=True,
    ),
    Entrant(
        name="dense-bound-bf16",
        about="product's layers alone, bf16",
        build=layers_alone,
        bf16=True,
        is_bound=True,
    ),
)
