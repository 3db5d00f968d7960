"""Losses and weights that are not numbers, and how far a training has to go back then."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.optim.keyed import CombinedOptimizer

from service.distributed import Ranks


class NotANumber(FloatingPointError):  # noqa: N818 - as in "NaN"
    """The loss, or a weight, is not a number.

    Args:
        what: What is not, and since when.
        advice: What to do.
        steps_since: Steps that were done after the first one to blame.
    """

    def __init__(self, what: str, advice: str, *, steps_since: int = 0) -> None:
        super().__init__(what, advice)
        self.what, self.steps_since = what, steps_since

    def __str__(self) -> str:
        return "; ".join(self.args)


def check_finite(
    model: nn.Module, optimizer: CombinedOptimizer, ranks: Ranks, *, step: int
) -> None:
    """Refuse weights and optimizer state with NaN or infinity in them; collective.

    A loss that is a number does not say so: the step that follows it may have spoilt the weights,
    or rows that no batch has read since. One pass over what this rank holds, much faster than
    writing it.

    Raises:
        NotANumber: On all ranks alike.
    """
    own = [name for name, values in _held(model, optimizer) if not _is_finite(values)]
    if bad := sorted({name for of_rank in ranks.gather(own) for name in of_rank}):
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise NotANumber(
            f"{bad[0]}{more} holds values that are not numbers after step {step}",
            "no checkpoint of them is written: lower --optimizer.sparse-lr or "
            "--optimizer.dense-lr, and go on with --resume from the checkpoint before",
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
