"""One batch of examples, and how columns of ids become TorchRec features."""

# Shapes:  n examples, I dense columns, S single-valued fields

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from models.tables import SizingPlan, Table

Ids = npt.NDArray[np.int32]


@dataclass(kw_only=True, slots=True)
class Batch(Pipelineable):
    """What a training step sees of its examples."""

    dense: Tensor
    """``(B, I)`` float32."""
    features: KeyedJaggedTensor
    """One key a table of the sizing plan."""
    labels: Tensor
    """``(B,)`` float32."""
    weights: Tensor
    """``(B,)``: what each example's loss is multiplied with, so that the mean over ranks of the
    summed losses is the mean over the global batch; 0 for padding, which is no example."""

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Copy to a device."""
        return Batch(
            dense=self.dense.to(device, non_blocking=non_blocking),
            features=self.features.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            weights=self.weights.to(device, non_blocking=non_blocking),
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until the stream is done with it."""
        for tensor in (self.dense, self.labels, self.weights):
            tensor.record_stream(stream)
        self.features.record_stream(stream)  # type: ignore[arg-type]  # any device's stream

    def pin_memory(self) -> "Batch":
        """Copy into page-locked memory, from which a GPU reads without waiting."""
        return Batch(
            dense=self.dense.pin_memory(),
            features=self.features.pin_memory(),
            labels=self.labels.pin_memory(),
            weights=self.weights.pin_memory(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ListColumn:
    """A field that has any number of ids an example."""

    lengths: npt.NDArray[np.int32]
    """``(n,)``"""
    values: Ids
    """``(sum of lengths,)``"""

    def take(self, rows: npt.NDArray[np.intp]) -> "ListColumn":
        """Pick examples by position."""
        starts = np.concatenate(([0], np.cumsum(self.lengths)[:-1]))[rows]
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        return ListColumn(lengths=lengths, values=self.values[np.repeat(starts, lengths) + within])


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Examples as Parquet has them: labels, dense columns, ids by field."""

    labels: npt.NDArray[np.float32]
    """``(n,)``"""
    dense: npt.NDArray[np.float32]
    """``(n, I)``"""
    ids: Ids
    """``(S, n)``: single-valued fields, in the order of the plan."""
    lists: tuple[ListColumn, ...]
    """List-valued fields, in the order of the plan."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.intp]) -> "Columns":
        """Pick examples by position."""
        return Columns(
            labels=self.labels[rows],
            dense=self.dense[rows],
            ids=self.ids[:, rows],
            lists=tuple(column.take(rows) for column in self.lists),
        )

    @staticmethod
    def concatenate(parts: Sequence["Columns"]) -> "Columns":
        """Put examples after each other."""
        if len(parts) == 1:
            return parts[0]
        return Columns(
            labels=np.concatenate([part.labels for part in parts]),
            dense=np.concatenate([part.dense for part in parts]),
            ids=np.concatenate([part.ids for part in parts], axis=1),
            lists=tuple(
                ListColumn(
                    lengths=np.concatenate([column.lengths for column in columns]),
                    values=np.concatenate([column.values for column in columns]),
                )
                for columns in zip(*(part.lists for part in parts), strict=True)
            ),
        )


@lru_cache(4)
def _one_id_each(num_bags: int) -> tuple[Tensor, Tensor]:
    """Lengths and offsets of bags that hold one id each; the same for every full batch."""
    return (
        torch.from_numpy(np.ones(num_bags, dtype=np.int32)),
        torch.from_numpy(np.arange(num_bags + 1, dtype=np.int32)),
    )


class FeatureBuilder:
    """Turns ids by field into a `KeyedJaggedTensor` with one key a table of the sizing plan.

    Fields of one block pass their ids through; a field of several blocks sends each id to the
    block that holds its row and leaves the other blocks' bags empty.

    Args:
        plan: Which tables every field has.
        list_fields: Fields whose columns are lists.
    """

    def __init__(self, plan: SizingPlan, list_fields: Sequence[str] = ()) -> None:
        self.single_fields = tuple(name for name in plan.fields if name not in list_fields)
        self.list_fields = tuple(name for name in plan.fields if name in list_fields)
        self._tables = list(plan.tables())
        self._keys = [table.name for table in self._tables]
        self._is_plain = not self.list_fields and len(self._tables) == len(plan.fields)

    def __call__(self, columns: Columns) -> KeyedJaggedTensor:
        """Build the features of a batch."""
        num_examples = len(columns)
        if self._is_plain:
            lengths, offsets = _one_id_each(len(self._keys) * num_examples)
            return KeyedJaggedTensor(
                keys=self._keys,
                values=torch.from_numpy(columns.ids.reshape(-1)),
                lengths=lengths,
                offsets=offsets,
                stride=num_examples,
            )
        routed = [self._route(table, columns) for table in self._tables]
        return KeyedJaggedTensor(
            keys=self._keys,
            values=torch.from_numpy(np.concatenate([column.values for column in routed])),
            lengths=torch.from_numpy(np.concatenate([column.lengths for column in routed])),
            stride=num_examples,
        )

    def _route(self, table: Table, columns: Columns) -> ListColumn:
        """The ids of one table, as rows of that table."""
        if table.field in self.list_fields:
            column = columns.lists[self.list_fields.index(table.field)]
        else:
            ids = columns.ids[self.single_fields.index(table.field)]
            column = ListColumn(lengths=np.ones(len(ids), dtype=np.int32), values=ids)
        if table.name == table.field:
            return column
        rows = column.values - np.int32(table.first_id)
        is_here = (rows >= 0) & (rows < table.num_embeddings)
        example = np.repeat(np.arange(len(columns)), column.lengths)[is_here]
        lengths = np.bincount(example, minlength=len(columns)).astype(np.int32)
        return ListColumn(lengths=lengths, values=rows[is_here])
