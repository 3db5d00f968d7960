"""One batch of examples, and how columns of ids become TorchRec features."""

# Shapes:  B batch, I dense columns, F fields

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from models.embeddings.packed import feature_keys, slotted
from models.layout import Layout
from models.tables import Table
from service.data.examples import Columns, Ids, ListColumn, route, shared_rows


@dataclass(kw_only=True, slots=True)
class Batch(Pipelineable):
    """What a training step sees of its examples."""

    dense: Tensor
    """``(B, I)`` float32."""
    features: KeyedJaggedTensor
    """One key a table of the sizing plan, and the slots of packed tables."""
    labels: Tensor
    """``(B,)`` float32."""
    weights: Tensor
    """``(B,)``: what each example's loss is multiplied with, so that the mean over ranks of the
    summed losses is the mean over the global batch; 0 for padding, which is no example."""
    lookup_weights: Tensor | None = None
    """``(B, F)``: what the penalty of each field's vector is multiplied with; None for 1."""

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Copy to a device."""
        return Batch(
            dense=self.dense.to(device, non_blocking=non_blocking),
            features=self.features.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            weights=self.weights.to(device, non_blocking=non_blocking),
            lookup_weights=None
            if self.lookup_weights is None
            else self.lookup_weights.to(device, non_blocking=non_blocking),
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until the stream is done with it."""
        for tensor in (self.dense, self.labels, self.weights, self.lookup_weights):
            if tensor is not None:
                tensor.record_stream(stream)
        self.features.record_stream(stream)  # type: ignore[arg-type]  # any device's stream

    def pin_memory(self) -> "Batch":
        """Copy into page-locked memory, from which a GPU reads without waiting."""
        return Batch(
            dense=self.dense.pin_memory(),
            features=self.features.pin_memory(),
            labels=self.labels.pin_memory(),
            weights=self.weights.pin_memory(),
            lookup_weights=None
            if self.lookup_weights is None
            else self.lookup_weights.pin_memory(),
        )


@lru_cache(4)
def _one_id_each(num_bags: int) -> tuple[Tensor, Tensor]:
    """Lengths and offsets of bags that hold one id each; the same for every full batch."""
    return (
        torch.from_numpy(np.ones(num_bags, dtype=np.int32)),
        torch.from_numpy(np.arange(num_bags + 1, dtype=np.int32)),
    )


class FeatureBuilder:
    """Turns ids by field into the `KeyedJaggedTensor` of a sizing plan: ids become stored rows.

    Fields of one block pass their ids through; a field of several blocks sends each id to the
    block that holds its row and leaves the other blocks' bags empty. Hashed blocks wrap their ids
    around; tables of several ids a row divide them, in integers, before that. Ids of a packed table
    become its stored rows; their slots follow as features of their own, after those of all tables,
    or decide in which of the table's features a list's id is.

    Args:
        plan: Which tables every field has.
        list_fields: Fields whose columns are lists.
    """

    def __init__(self, plan: Layout, list_fields: Sequence[str] = ()) -> None:
        self.single_fields = tuple(name for name in plan.fields if name not in list_fields)
        self.list_fields = tuple(name for name in plan.fields if name in list_fields)
        self._tables = list(plan.tables())
        self._keys = feature_keys(self._tables, self.list_fields)
        self._slotted = [table.name for table in slotted(self._tables, self.list_fields)]
        self._has_one_id_a_key = not self.list_fields and len(self._tables) == len(plan.fields)
        self._is_plain = self._has_one_id_a_key and not any(
            table.hashed_ids or table.packing > 1 for table in self._tables
        )

    def __call__(self, columns: Columns) -> KeyedJaggedTensor:
        """Build the features of a batch."""
        if self._has_one_id_a_key:
            ids = columns.ids if self._is_plain else self._stored_rows(columns.ids)
            lengths, offsets = _one_id_each(ids.size)
            return KeyedJaggedTensor(
                keys=self._keys,
                values=torch.from_numpy(ids.reshape(-1)),
                lengths=lengths,
                offsets=offsets,
                stride=len(columns),
            )
        routed = self._route_all(columns)
        return KeyedJaggedTensor(
            keys=self._keys,
            values=torch.from_numpy(np.concatenate([column.values for column in routed])),
            lengths=torch.from_numpy(np.concatenate([column.lengths for column in routed])),
            stride=len(columns),
        )

    def _stored_rows(self, ids: Ids) -> Ids:
        """Stored rows of tables that are all their field has, and below them the slots."""
        stored = np.empty((len(self._keys), ids.shape[1]), dtype=np.int32)
        slots = dict(zip(self._slotted, stored[len(ids) :], strict=True))
        for table, rows, target in zip(self._tables, ids, stored, strict=False):
            wrapped = shared_rows(table, rows) if table.hashed_ids else rows
            if table.packing > 1:
                np.bitwise_and(wrapped, table.packing - 1, out=slots[table.name])
            np.floor_divide(wrapped, table.packing, out=target)
        return stored

    def _route_all(self, columns: Columns) -> list[ListColumn]:
        """Stored rows by key."""
        routed, slots = [], {}
        for table in self._tables:
            rows = self._route(table, columns)
            if table.packing == 1:
                routed.append(rows)
            elif table.name in self._slotted:
                routed.append(_divided(rows, table.packing))
                slots[table.name] = _slots(rows, table.packing)
            else:
                parts = (_with_slot(rows, slot, table.packing) for slot in range(table.packing))
                routed.extend(_divided(part, table.packing) for part in parts)
        return routed + [slots[name] for name in self._slotted]

    def _route(self, table: Table, columns: Columns) -> ListColumn:
        """The ids of one table, as rows of that table."""
        if table.field in self.list_fields:
            return route(table, columns.lists[self.list_fields.index(table.field)])
        ids = columns.ids[self.single_fields.index(table.field)]
        return route(table, ListColumn.one_each(ids))


def _divided(rows: ListColumn, packing: int) -> ListColumn:
    return replace(rows, values=rows.values // np.int32(packing))


def _with_slot(rows: ListColumn, slot: int, packing: int) -> ListColumn:
    return rows.where(rows.values % packing == slot)


def _slots(rows: ListColumn, packing: int) -> ListColumn:
    """One slot an example of a single-valued field; 0 where another block holds its id."""
    slots = np.zeros(len(rows.lengths), dtype=np.int32)
    slots[rows.lengths > 0] = rows.values % packing
    return ListColumn(lengths=np.ones(len(slots), dtype=np.int32), values=slots)
