"""Pick from pooled vectors the columns that are meant, in the order in which they are needed."""

# Shapes:  B batch, S columns that are picked, T tables whose slot an example decides,
#          W columns of theirs

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """Where a column comes from."""

    key: str
    """The pooled feature."""
    column: int
    """Its column, at slot 0 where slots differ."""
    step: int = 0
    """Columns from slot to slot of a packed table; 0 where the column is always the same."""
    owner: int = 0
    """The table, among those whose slot an example decides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Neighbouring columns that stay neighbours."""

    is_slotted: bool
    """Whether they are among the columns that were chosen by slot."""
    source: int
    target: int
    length: int = 1

    def longer(self) -> "Run":
        """With one column more."""
        return replace(self, length=self.length + 1)

    def follows(self, other: "Run") -> bool:
        """Whether another run ends where this one begins, before and after."""
        steps = self.source - other.source, self.target - other.target
        return self.is_slotted == other.is_slotted and steps == (other.length, other.length)


class ColumnPicker:
    """Copy columns of pooled vectors once, whatever the order of their keys.

    Args:
        columns: What to pick, in order.
        num_slotted: ``T``; their slots are the last features, see
            `models.embeddings.packed.feature_keys`.
    """

    def __init__(self, columns: Sequence[Column], num_slotted: int) -> None:
        self.columns, self.num_slotted = columns, num_slotted
        self._keys: list[str] = []
        self._runs: list[Run] = []
        self._slots: Tensor | None = None

    def __call__(self, pooled: KeyedTensor, features: KeyedJaggedTensor) -> Tensor:
        """The columns, ``(B, S)``."""
        values = pooled.values()
        if self._keys != pooled.keys():  # a sharded collection has its keys in plan order
            self._find(pooled)
        whole = Run(is_slotted=False, source=0, target=0, length=values.shape[1])
        if self._runs == [whole]:
            return values
        picked: Tensor = _Picked.apply(  # type: ignore[no-untyped-call]
            values, self._index(features), self._runs, len(self.columns)
        )
        return picked

    def _index(self, features: KeyedJaggedTensor) -> Tensor | None:
        """Column of every example's slot ``(B, W)``."""
        if self._slots is None:
            return None
        owner, first, step = self._slots  # (W,) each
        slots = features.values()[-self.num_slotted * features.stride() :]
        slots = slots.view(self.num_slotted, -1).index_select(0, owner).t()  # (B, W)
        index: Tensor = first + slots * step
        return index

    def _find(self, pooled: KeyedTensor) -> None:
        starts = dict(zip(pooled.keys(), pooled.offset_per_key(), strict=False))
        slots, self._runs = [], []
        for target, column in enumerate(self.columns):
            source = starts[column.key] + column.column
            if column.step:
                slots.append((column.owner, source, column.step))
                source = len(slots) - 1
            run = Run(is_slotted=column.step > 0, source=source, target=target)
            if self._runs and run.follows(self._runs[-1]):
                run = self._runs.pop().longer()
            self._runs.append(run)
        self._slots = torch.tensor(slots, device=pooled.device()).t() if slots else None
        self._keys = pooled.keys()


class _Picked(torch.autograd.Function):
    """Runs of columns, some of them chosen by an index of every example.

    No element is read twice, so that the gradient is a copy, too: nothing is to be added up.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, index: Tensor | None, runs: Sequence[Run], width: int
    ) -> Tensor:
        ctx.save_for_backward(index)
        ctx.runs, ctx.width = runs, values.shape[1]
        chosen = values if index is None else values.gather(1, index)
        picked = values.new_empty(values.shape[0], width)
        for run in runs:
            source = chosen if run.is_slotted else values
            picked.narrow(1, run.target, run.length).copy_(source.narrow(1, run.source, run.length))
        return picked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (index,) = ctx.saved_tensors
        values = grad.new_zeros(grad.shape[0], ctx.width)
        chosen = values if index is None else grad.new_empty(index.shape)
        for run in ctx.runs:
            source = chosen if run.is_slotted else values
            source.narrow(1, run.source, run.length).copy_(grad.narrow(1, run.target, run.length))
        if index is not None:
            values.scatter_(1, index, chosen)
        return values, None, None, None
