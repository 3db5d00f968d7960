"""Who moves which weights: FBGEMM the tables in the backward pass, torch's optimizers the rest.

Tables of an optimizer that FBGEMM lacks are data-parallel: a dense parameter on every rank, whose
gradient is averaged over the ranks before a torch optimizer moves *all* of its rows. Under Adam
and AMSGrad this is more than a matter of speed: rows that a batch does not read move too, on the
momentum they have left, and their moments decay at every step. That is what the papers train.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.distributed.optim import (
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)
from torch.optim import Optimizer
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from models.tables import SparseOptimizer, is_fused
from models.turn import Turn
from service.config import OptimizerConfig

FUSED_OPTIMIZERS: Final[Mapping[SparseOptimizer, type[Optimizer]]] = MappingProxyType(
    {
        "rowwise_adagrad": RowWiseAdagrad,
        "sgd": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "adam": torch.optim.Adam,
    }
)
"""What TorchRec translates into FBGEMM's kernels."""

DENSE_OPTIMIZERS: Final[Mapping[SparseOptimizer, Callable[..., Optimizer]]] = MappingProxyType(
    {
        **FUSED_OPTIMIZERS,
        "adam": partial(torch.optim.Adam, fused=True),
        "amsgrad": partial(torch.optim.Adam, fused=True, amsgrad=True),
    }
)
"""What moves data-parallel tables, and everything else by ``adam``."""

EMBEDDINGS: Final = "network.embeddings."
"""What the names of all weights of the embeddings begin with."""


def fuse_optimizer(tables: nn.Module, config: OptimizerConfig, device: torch.device) -> None:
    """Tell TorchRec, before it shards, what FBGEMM applies to the tables in the backward pass."""
    if is_fused(config.sparse, "cuda" if device.type == "cuda" else "cpu"):
        apply_optimizer_in_backward(
            FUSED_OPTIMIZERS[config.sparse], tables.parameters(), _sparse_arguments(config)
        )


class Optimizers(CombinedOptimizer):
    """One optimizer of all weights, which in a step moves those alone whose turn it is.

    Args:
        weights: Of tables and layers; the last group is the dense layers'.
        architecture: Of what decides what becomes of tables; None where nothing does.
    """

    turn: Turn = Turn()

    def __init__(
        self, weights: Sequence[KeyedOptimizer], architecture: KeyedOptimizer | None = None
    ) -> None:
        self._architecture = architecture
        parts = [] if architecture is None else [architecture]
        super().__init__([*parts, *weights])

    def parts(self) -> tuple[list[Tensor], list[Tensor]]:
        """All weights that torch moves, and the architecture."""
        own = [] if self._architecture is None else list(self._architecture.params.values())
        architecture = {id(parameter) for parameter in own}
        weights = [p for p in self.params.values() if id(p) not in architecture]
        return weights, own

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as torchrec's
        """Move what the turn says."""
        for _, part in self.optimizers:
            is_architecture = part is self._architecture
            if self.turn.moves_architecture if is_architecture else self.turn.moves_weights:
                part.step(closure=closure)


def build_optimizer(
    model: DistributedModelParallel,
    config: OptimizerConfig,
    *,
    architecture: Collection[str] = (),
    architecture_lr: float = 0.0,
) -> Optimizers:
    """One optimizer of all weights of a sharded model, its last group the dense layers'.

    Args:
        model: The model.
        config: How weights move.
        architecture: Parameters of the embeddings, by their names there, that move by themselves.
        architecture_lr: Their learning rate, of Adam.
    """
    names = {f"{EMBEDDINGS}{name}" for name in architecture}
    weights = [model.fused_optimizer, *_unfused(model, config, without=names)]
    if not names:
        return Optimizers(weights)
    own = {name: weight for name, weight in model.named_parameters() if name in names}
    assert own.keys() == names
    adam = partial(DENSE_OPTIMIZERS["adam"], lr=architecture_lr, eps=config.eps)
    return Optimizers(weights, KeyedOptimizerWrapper(own, adam))


def _unfused(
    model: DistributedModelParallel, config: OptimizerConfig, *, without: Collection[str]
) -> Iterator[KeyedOptimizerWrapper]:
    # Data-parallel tables ignore the fused optimizer: they get the same algorithm outside of the
    # backward pass, or they would silently keep their starting values.
    tables: dict[str, nn.Parameter] = {}
    dense: dict[str, nn.Parameter] = {}
    for name, parameter in in_backward_optimizer_filter(model.named_parameters()):
        if name not in without:
            (tables if ".embedding_bags." in name else dense)[name] = parameter
    if tables:
        yield KeyedOptimizerWrapper(
            tables, partial(DENSE_OPTIMIZERS[config.sparse], **_sparse_arguments(config))
        )
    adam = partial(DENSE_OPTIMIZERS["adam"], lr=config.dense_lr, eps=config.eps)
    # As a group, which unlike a list may be empty: factorizations have no weights but tables.
    yield KeyedOptimizerWrapper(dense, lambda weights: adam([{"params": list(weights)}]))


def _sparse_arguments(config: OptimizerConfig) -> dict[str, Any]:
    arguments: dict[str, Any] = {"lr": config.sparse_lr}
    if config.sparse != "sgd":
        arguments["eps"] = config.eps
    return arguments
