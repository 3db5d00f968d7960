"""A copy of a state in host memory, which training cannot change any more."""

import copy
from typing import Any

from torch import Tensor
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor import Shard, ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import ShardedTensorMetadata
from torch.distributed.remote_device import _remote_device


def staged(value: Any) -> Any:
    """Copy a nested state: tensors into host memory, shards with their places."""
    if isinstance(value, dict):
        return {name: staged(inner) for name, inner in value.items()}
    if isinstance(value, ShardedTensor):
        return _staged_shards(value)
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    return copy.deepcopy(value)


def _staged_shards(value: ShardedTensor) -> ShardedTensor:
    whole = value.metadata()
    places = {_key(shard): _in_host_memory(shard) for shard in whole.shards_metadata}
    local = [
        Shard(shard.tensor.detach().to("cpu", copy=True), places[_key(shard.metadata)])
        for shard in value.local_shards()
    ]
    metadata = ShardedTensorMetadata(list(places.values()), whole.size, whole.tensor_properties)
    return ShardedTensor._init_from_local_shards_and_global_metadata(
        local, metadata, process_group=value._process_group
    )


def _in_host_memory(shard: ShardMetadata) -> ShardMetadata:
    assert isinstance(shard.placement, _remote_device)  # as TorchRec places them
    return ShardMetadata(
        shard_offsets=list(shard.shard_offsets),
        shard_sizes=list(shard.shard_sizes),
        placement=_remote_device(f"rank:{shard.placement.rank()}/cpu"),
    )


def _key(shard: ShardMetadata) -> tuple[int, ...]:
    return (*shard.shard_offsets, *shard.shard_sizes)
