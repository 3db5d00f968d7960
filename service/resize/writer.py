"""Write a checkpoint whose tensors are made while they are written, a piece at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

PIECE_BYTES: Final = 1 << 28
"""Bytes that are made and written at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One tensor of a checkpoint."""

    path: tuple[str, ...]
    """Its name in the state, level by level."""
    shape: tuple[int, ...]
    make: Callable[[int, int], Tensor]
    """Makes the rows from the first to the one before the second number."""
    is_whole: bool = False
    """Whether it cannot be made in pieces."""

    @property
    def name(self) -> str:
        """As the checkpoint calls it."""
        return ".".join(self.path)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """First and last rows of the pieces; a scalar is one."""
        if not self.shape:
            yield 0, 1
            return
        row_bytes = 4 * max(1, torch.Size(self.shape[1:]).numel())
        rows = self.shape[0] if self.is_whole else max(1, PIECE_BYTES // row_bytes)
        for first in range(0, self.shape[0], max(rows, 1)):
            yield first, min(first + rows, self.shape[0])


class PiecewisePlanner(DefaultSavePlanner):
    """Tells `torch.distributed.checkpoint` of tensors that are not there yet.

    Args:
        entries: All tensors, on all ranks the same.
        rank: Which of the pieces are this rank's.
        world_size: How many ranks share them.
    """

    def __init__(self, entries: Sequence[Entry], *, rank: int, world_size: int) -> None:
        super().__init__()
        self._made = {entry.name: entry for entry in entries}
        self._rank, self._world_size = rank, world_size

    def create_local_plan(self) -> SavePlan:
        """This rank's pieces: neighbours in a tensor, so that old shards are read few times."""
        items = []
        for number, entry in enumerate(self._made.values()):
            pieces = list(entry.pieces())
            for place, (first, end) in enumerate(pieces):
                owner = number + place * self._world_size // len(pieces)
                if owner % self._world_size == self._rank:
                    items.append(_item(entry, first, end))
        paths: dict[str, Any] = {name: entry.path for name, entry in self._made.items()}
        self.plan = SavePlan(items, planner_data=paths)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        """Make a piece."""
        entry = self._made[write_item.index.fqn]
        assert write_item.tensor_data is not None
        if not entry.shape:
            return entry.make(0, 1)
        chunk = write_item.tensor_data.chunk
        first = chunk.offsets[0]
        return entry.make(first, first + chunk.sizes[0])


def _item(entry: Entry, first: int, end: int) -> WriteItem:
    offsets = [first, *([0] * len(entry.shape[1:]))] if entry.shape else []
    sizes = [end - first, *entry.shape[1:]] if entry.shape else []
    return WriteItem(
        index=MetadataIndex(entry.name, torch.Size(offsets)),
        type=WriteItemType.SHARD if entry.shape else WriteItemType.TENSOR,
        tensor_data=TensorWriteData(
            chunk=ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=torch.Size(sizes)),
            properties=TensorProperties(dtype=torch.float32),
            size=torch.Size(entry.shape),
        ),
    )
