"""Single tensors of a checkpoint, read without a model and without a process group."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader, Metadata
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

Values = NDArray[np.float32]


class StoredTensors:
    """Tensors of a checkpoint, of which any rows can be read.

    Args:
        checkpoint: Folder written by `torch.distributed.checkpoint`.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._reader = FileSystemReader(checkpoint)
        self._metadata: Metadata = self._reader.read_metadata()
        self._reader.set_up_storage_reader(self._metadata, is_coordinator=True)
        self.shapes = {
            name: tuple(stored.size)
            for name, stored in self._metadata.state_dict_metadata.items()
            if isinstance(stored, TensorStorageMetadata)
        }

    def chunks(self, name: str) -> list[tuple[list[int], list[int]]]:
        """Offsets and sizes of the stored shards of a tensor."""
        return [(list(chunk.offsets), list(chunk.sizes)) for chunk in self._stored(name).chunks]

    def row_cuts(self, name: str) -> list[int]:
        """Rows at which a stored shard begins."""
        return sorted({chunk.offsets[0] for chunk in self._stored(name).chunks})

    def read(self, name: str, rows: slice | None = None) -> Values:
        """Read a tensor, or some of its rows."""
        offsets, sizes = [0] * len(self.shapes[name]), list(self.shapes[name])
        if rows is not None:
            offsets[0], sizes[0] = rows.start, rows.stop - rows.start
        wanted = ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=torch.Size(sizes))
        items = create_read_items_for_chunk_list(name, self._stored(name), [wanted])
        target = torch.empty(sizes, dtype=self._stored(name).properties.dtype)
        self._reader.read_data(LoadPlan(items), _IntoOne(target)).wait()
        return cast(Values, target.numpy())

    def _stored(self, name: str) -> TensorStorageMetadata:
        if name not in self.shapes:
            raise ValueError(
                f"checkpoint has no {name}; its run was trained with another plan or network"
            )
        return cast(TensorStorageMetadata, self._metadata.state_dict_metadata[name])


class _IntoOne(DefaultLoadPlanner):
    """Writes whatever is read into one tensor."""

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self._target = target

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        """The part of the tensor that an item fills."""
        part = self._target
        for axis, (start, size) in enumerate(
            zip(read_item.dest_offsets, read_item.lengths, strict=True)
        ):
            part = part.narrow(axis, start, size)
        return part

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        """Nothing is left to do: the part is a view."""
