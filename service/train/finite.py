"""Weights that are numbers: looked at before a checkpoint of them is written."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.optim.keyed import CombinedOptimizer

from service.distributed import Ranks


def check_finite(
    model: nn.Module, optimizer: CombinedOptimizer, ranks: Ranks, *, step: int
) -> None:
    """Refuse weights and optimizer state with NaN or infinity in them; collective.

    A loss that is a number does not say so: the step that follows it may have spoilt the weights,
    or rows that no batch has read since. One pass over what this rank holds, much faster than
    writing it.

    Raises:
        FloatingPointError: On all ranks alike.
    """
    own = [name for name, values in _held(model, optimizer) if not _is_finite(values)]
    if bad := sorted({name for of_rank in ranks.gather(own) for name in of_rank}):
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise FloatingPointError(
            f"{bad[0]}{more} holds values that are not numbers after step {step}; no checkpoint "
            f"of them is written: lower --optimizer.sparse-lr or --optimizer.dense-lr, and go on "
            f"with --resume from the checkpoint before"
        )


def _is_finite(values: Tensor) -> bool:
    lowest, highest = torch.aminmax(values)  # NaN passes through both
    return bool(torch.isfinite(lowest) & torch.isfinite(highest))


def _held(model: nn.Module, optimizer: CombinedOptimizer) -> Iterator[tuple[str, Tensor]]:
    """What this rank holds, by name."""
    for name, weight in model.state_dict().items():
        yield from ((name, values) for values in _local(weight))
    for name, state in optimizer.state_dict()["state"].items():
        for kind, value in state.items():
            yield from ((f"{kind} of {name}", values) for values in _local(value))


def _local(value: object) -> list[Tensor]:
    if isinstance(value, ShardedTensor):
        return [tensor for shard in value.local_shards() for tensor in _local(shard.tensor)]
    if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
        return [value.detach()]
    return []
