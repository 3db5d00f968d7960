"""The optimizer's state under one set of names, whichever kernel holds it.

FBGEMM's fused optimizers call their state ``<table>.momentum1``, torch's ``sum`` or ``exp_avg``. A
checkpoint that held either could not be read by the other. So a table's weight always has, under
its own name,

    ================  =========================================================
    sgd               nothing
    adagrad           ``sum`` (n, d)
    rowwise_adagrad   ``sum`` (n, c): c column shards, 1 where columns are whole
    adam              ``exp_avg`` (n, d), ``exp_avg_sq`` (n, d), ``step`` ()
    amsgrad           these and ``max_exp_avg_sq`` (n, d)
    ================  =========================================================

All are views: what is loaded into them is loaded into the optimizer.
"""

# Shapes:  n rows, d columns, c column shards of a table

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor, nn
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor import Shard, ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import ShardedTensorMetadata
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbeddingBag
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper

OptimizerState = dict[str, dict[str, Any]]
"""By name of the weight, by name of the state."""

TABLES: Final = ".embedding_bags."
"""What the name of every table's weight contains."""


class OptimizerView:
    """A model's optimizer state, by the names of the checkpoint.

    Args:
        model: The sharded model.
        optimizer: Its optimizer; state that it makes at its first step is made now.
    """

    def __init__(self, model: nn.Module, optimizer: CombinedOptimizer) -> None:
        for _, part in optimizer.optimizers:
            if isinstance(part, KeyedOptimizerWrapper) and not part.state:
                _make_state(part)
        self._kernels = fused_kernels(model)
        params = optimizer.params
        self.state: OptimizerState = {}
        """What is stored. A weight without state, as of SGD, has no entry: ranks that hold no
        shard of it would miss that."""
        self.rowwise: dict[str, RowwiseSum] = {}
        """The row-wise ones among them, which depend on how columns are cut."""
        for key, own in optimizer.state_dict()["state"].items():
            if own:
                self.state[key] = self._named(key, params[key], own) if TABLES in key else own

    def restore_steps(self) -> None:
        """Tell the fused kernels which step they are at, after a load into `state`."""
        for key, of_weight in self.state.items():
            kernel = self._kernels.get(_table_of(key))
            if kernel is not None and "step" in of_weight:
                for counter in (kernel.iter, kernel.iter_cpu):
                    counter.fill_(int(of_weight["step"]))

    def _named(self, key: str, weight: Any, own: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(weight, ShardedTensor):
            own = self._fused(_table_of(key), own)
        named = {name: value for name, value in own.items() if name != "step" or "exp_avg" in own}
        if "sum" in named and (summed := RowwiseSum.of(weight, named["sum"])) is not None:
            self.rowwise[key] = summed
            named["sum"] = summed.by_columns()
        return named

    def _fused(self, table: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """State of a fused kernel under the names of torch's optimizers."""
        named = {name.removeprefix(f"{table}."): value for name, value in own.items()}
        first = named.pop("momentum1")  # TorchRec's name of the first one, whatever it is
        if "exp_avg_sq" not in named:
            return {"sum": first, **named}
        step = float(self._kernels[table].iter.item())
        return {"exp_avg": first, **named, "step": torch.tensor(step)}


@dataclass(frozen=True, slots=True)
class RowwiseSum:
    """Row-wise Adagrad's state of a table: for each row, a mean over the columns of a shard."""

    weight: Any
    """The table, sharded or a copy."""
    parts: list[Tensor]
    """State of every local shard."""

    @classmethod
    def of(cls, weight: Any, summed: Any) -> "RowwiseSum | None":
        """Recognise it by its shape; None if the state is element-wise."""
        if not isinstance(weight, ShardedTensor):
            is_rowwise = summed.shape[1] == 1 != weight.shape[1]
            return cls(weight, [summed]) if is_rowwise else None
        parts = [shard.tensor for shard in summed.local_shards()]
        return cls(weight, parts) if len(summed.metadata().size) == 1 else None

    @property
    def cuts(self) -> list[tuple[int, int]]:
        """First column, and the one behind the last, of the column shards of all ranks."""
        if not isinstance(self.weight, ShardedTensor):
            return [(0, self.weight.shape[1])]
        return column_cuts(
            [(shard.shard_offsets, shard.shard_sizes) for shard in _shards(self.weight)]
        )

    def local(self) -> Iterator[tuple[slice, tuple[int, int], Tensor]]:
        """Rows, columns and state of every local shard."""
        if not isinstance(self.weight, ShardedTensor):
            yield slice(0, self.weight.shape[0]), self.cuts[0], self.parts[0].view(-1)
            return
        for shard, part in zip(self.weight.local_shards(), self.parts, strict=True):
            (row, column), (rows, columns) = (
                shard.metadata.shard_offsets,
                shard.metadata.shard_sizes,
            )
            yield slice(row, row + rows), (column, column + columns), part

    def by_columns(self) -> Any:
        """As it is stored: ``(n, c)``."""
        if not isinstance(self.weight, ShardedTensor):
            return self.parts[0]
        firsts = [first for first, _ in self.cuts]
        stored = {_place(shard): _of_rows(shard, firsts) for shard in _shards(self.weight)}
        local = [
            Shard(part[:, None], stored[_place(shard.metadata)])
            for shard, part in zip(self.weight.local_shards(), self.parts, strict=True)
        ]
        whole = self.weight.metadata()
        metadata = ShardedTensorMetadata(
            list(stored.values()), torch.Size([whole.size[0], len(firsts)]), whole.tensor_properties
        )
        return ShardedTensor._init_from_local_shards_and_global_metadata(
            local, metadata, process_group=self.weight._process_group
        )


def column_cuts(shards: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[int, int]]:
    """Where the columns of a table are cut, from the offsets and sizes of its shards."""
    return sorted({(offsets[1], offsets[1] + sizes[1]) for offsets, sizes in shards})


def _make_state(part: KeyedOptimizerWrapper) -> None:
    """Make the state of before the first step, which torch does in a step of zero gradients."""
    part.init_state()
    for of_weight in part.state.values():
        of_weight["step"].zero_()


def fused_kernels(model: nn.Module) -> dict[str, SplitTableBatchedEmbeddingBagsCodegen]:
    """FBGEMM's modules on this rank by the tables that they hold."""
    return {
        table.name: cast(SplitTableBatchedEmbeddingBagsCodegen, module.emb_module)
        for collection in model.modules()
        if isinstance(collection, ShardedEmbeddingBagCollection)
        for lookup in collection._lookups  # in a list, where the model's modules do not have them
        for module in lookup.modules()
        if isinstance(module, BatchedFusedEmbeddingBag)
        for table in module.config.embedding_tables
    }


def _table_of(key: str) -> str:
    return key.rpartition(TABLES)[2].removesuffix(".weight")


def _shards(weight: ShardedTensor) -> list[ShardMetadata]:
    shards: list[ShardMetadata] = weight.metadata().shards_metadata
    return shards


def _of_rows(shard: ShardMetadata, first_columns: Sequence[int]) -> ShardMetadata:
    """Where the row-wise state of a table's shard is stored."""
    row, column = shard.shard_offsets
    return ShardMetadata(
        shard_offsets=[row, first_columns.index(column)],
        shard_sizes=[shard.shard_sizes[0], 1],
        placement=shard.placement,
    )


def _place(shard: ShardMetadata) -> tuple[int, ...]:
    return (*shard.shard_offsets, *shard.shard_sizes)
