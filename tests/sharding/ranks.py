"""Two gloo ranks that train small sharded collections and report what became of them."""

# Shapes:  B batch of a rank, F tables

import inspect
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torchrec
from torch import Tensor, nn
from torch.distributed.optim import _apply_optimizer_in_backward as apply_optimizer_in_backward
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.types import ShardingEnv
from torchrec.optim.keyed import KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter

from models.tables import SparseOptimizer
from sharding.cluster import local
from sharding.constraints import Comms, ShardingConfig, ShardingType
from sharding.planner import plan_module, sharders

TABLES = {"a": (7, 4), "b": (50, 16), "c": (3, 8), "d": (100, 8), "e": (1, 12)}
"""Rows and width; fewer rows than ranks, and widths that cannot be halved, included."""

OPTIMIZERS: dict[SparseOptimizer, Any] = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rowwise_adagrad": torchrec.optim.RowWiseAdagrad,
}
LEARNING_RATE = 0.1
NUM_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Case:
    """One small training: everything is derived from it, on the ranks and in the oracle."""

    sharding_type: ShardingType
    optimizer: SparseOptimizer
    batch_sizes: tuple[int, ...] = (4, 4)
    num_steps: int = NUM_STEPS
    comms: Comms = "fp32"

    def __str__(self) -> str:
        return f"{self.sharding_type}-{self.optimizer}-{self.batch_sizes}-{self.comms}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one rank saw."""

    forward: dict[str, Tensor]
    """Pooled vectors of the first step by table."""
    weights: dict[str, list[tuple[int, int, Tensor]]]
    """First row, first column and weights of every local shard after the last step."""
    state_keys: dict[str, list[str]]
    """Names of the fused optimizer's state by parameter."""
    table_bytes: int
    """Bytes of the weights and the optimizer state that this rank allocated."""
    exchanged_bytes: dict[str, int]
    """Bytes that this rank sent to others, by type of number."""
    error: str = ""


def first_weights() -> dict[str, Tensor]:
    """Weights that every training starts from."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in TABLES.items()}


def global_batch(step: int, num_examples: int) -> tuple[list[Tensor], list[Tensor]]:
    """Lengths ``(F, B)`` with empty bags among them, and the ids of every table."""
    generator = torch.Generator().manual_seed(100 + step)
    lengths = [torch.randint(0, 4, (num_examples,), generator=generator) for _ in TABLES]
    ids = [
        torch.randint(0, rows, (int(length.sum()),), generator=generator)
        for length, (rows, _) in zip(lengths, TABLES.values(), strict=True)
    ]
    return lengths, ids


def loss_of(pooled: dict[str, Tensor], num_examples: int) -> Tensor:
    """A loss in which every weight matters: ``sum((x - 1)^2) / examples``."""
    return torch.stack([(x - 1).square().sum() for x in pooled.values()]).sum() / num_examples


def run(rank: int, cases: Sequence[Case], folder: Path, port: int, ranks_per_host: int = 2) -> None:
    """Train every case on this rank; leave the outcomes in ``folder``."""
    world_size = len(cases[0].batch_sizes)
    os.environ |= {
        "LOCAL_RANK": str(rank % ranks_per_host),
        "LOCAL_WORLD_SIZE": str(ranks_per_host),
    }
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", rank=rank, world_size=world_size, init_method=f"tcp://127.0.0.1:{port}"
    )
    _count_bytes()
    torch.save([_train(case, rank) for case in cases], folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


COLLECTIVES: dict[str, Callable[[dict[str, Any], int], float]] = {
    "all_to_all_single": lambda call, size: call["input"].nbytes - _kept_bytes(call, size),
    "reduce_scatter_tensor": lambda call, size: call["input"].nbytes * (size - 1) / size,
    "all_gather_into_tensor": lambda call, size: call["input_tensor"].nbytes * (size - 1),
}
"""Bytes that a rank sends to others, of what it hands to a collective of so many ranks."""

exchanged: Counter[str] = Counter()
"""Bytes that this process has sent, by type of number."""


def _kept_bytes(call: dict[str, Any], size: int) -> float:
    """What a rank sends to itself."""
    if not call.get("input_split_sizes"):
        return float(call["input"].nbytes) / size
    own: int = call["input_split_sizes"][dist.get_rank(call["group"])]
    return own * call["input"].element_size()


def _count_bytes() -> None:
    """Have torch's collectives of tensors count what they send."""
    for name, sent in COLLECTIVES.items():
        setattr(dist, name, _counting(getattr(dist, name), sent))


def _counting(
    collective: Callable[..., Any], sent: Callable[[dict[str, Any], int], float]
) -> Callable[..., Any]:
    signature = inspect.signature(collective)

    def count(*args: Any, **named: Any) -> Any:
        call = signature.bind(*args, **named).arguments
        dtype = str(next(x for key, x in call.items() if key.startswith("input")).dtype)
        exchanged[dtype] += int(sent(call, dist.get_world_size(call["group"])))
        return collective(*args, **named)

    return count


def _train(case: Case, rank: int) -> Outcome:
    model, dense = _build(case)
    exchanged.clear()
    forward: dict[str, Tensor] = {}
    error = ""
    for step in range(case.num_steps):
        pooled = model(_local_batch(case, step, rank))
        local_pooled = {name: pooled[name] for name in TABLES}
        forward = forward or {name: x.detach().clone() for name, x in local_pooled.items()}
        # TorchRec divides gradients by the number of ranks, as if each loss were a local mean.
        scale = len(case.batch_sizes)
        try:
            (loss_of(local_pooled, sum(case.batch_sizes)) * scale).backward()
        except RuntimeError as failure:
            error = str(failure)
            break
        if dense:
            dense.step()
            dense.zero_grad()
    state = model.fused_optimizer.state_dict()["state"]
    return Outcome(
        forward=forward,
        weights=_local_weights(model),
        state_keys={key: sorted(value) for key, value in state.items()},
        table_bytes=_allocated_bytes(model),
        exchanged_bytes=dict(exchanged),
        error=error,
    )


def _build(case: Case) -> tuple[DistributedModelParallel, KeyedOptimizerWrapper | None]:
    arguments = {"lr": LEARNING_RATE} | ({"eps": 1e-8} if case.optimizer != "sgd" else {})
    collection = EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=name, feature_names=[name], num_embeddings=rows, embedding_dim=width
            )
            for name, (rows, width) in TABLES.items()
        ],
        device=torch.device("meta"),
    )
    apply_optimizer_in_backward(  # sharding adds to the dict it is handed: give it one of its own
        OPTIMIZERS[case.optimizer], collection.parameters(), dict(arguments)
    )
    config = ShardingConfig(types=(case.sharding_type,), comms=case.comms)
    model = nn.Sequential(collection)
    world_size = len(case.batch_sizes)
    ranks_per_host = int(os.environ["LOCAL_WORLD_SIZE"])
    cluster = replace(local(world_size), ranks_per_host=ranks_per_host)
    sharded = DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(dist.GroupMember.WORLD),
        device=torch.device("cpu"),
        plan=plan_module(model, cluster, 4, config, optimizer=case.optimizer),
        sharders=sharders(config),
    )
    start = first_weights()
    for name, shards in _local_weights(sharded).items():
        for row, column, weights in shards:
            rows, columns = weights.shape
            weights.copy_(start[name][row : row + rows, column : column + columns])
    unfused = dict(in_backward_optimizer_filter(sharded.named_parameters()))
    if not unfused:
        return sharded, None
    return sharded, KeyedOptimizerWrapper(
        unfused, lambda parameters: OPTIMIZERS[case.optimizer](parameters, **arguments)
    )


def _local_batch(case: Case, step: int, rank: int) -> KeyedJaggedTensor:
    first = sum(case.batch_sizes[:rank])
    examples = slice(first, first + case.batch_sizes[rank])
    lengths, ids = global_batch(step, sum(case.batch_sizes))
    bags = [x.split(length.tolist())[examples] for x, length in zip(ids, lengths, strict=True)]
    return KeyedJaggedTensor(
        keys=list(TABLES),
        values=torch.cat([bag for of_table in bags for bag in of_table] or [torch.empty(0).long()]),
        lengths=torch.cat([length[examples] for length in lengths]),
    )


def _local_weights(model: DistributedModelParallel) -> dict[str, list[tuple[int, int, Tensor]]]:
    weights = {}
    for key, value in model.state_dict().items():
        name = key.split(".")[-2]
        if hasattr(value, "local_shards"):
            weights[name] = [
                (*shard.metadata.shard_offsets, shard.tensor.detach())
                for shard in value.local_shards()
            ]
        else:
            weights[name] = [(0, 0, value.detach())]
    return weights


def _allocated_bytes(model: DistributedModelParallel) -> int:
    weights = [x for shards in _local_weights(model).values() for _, _, x in shards]
    states = [
        shard.tensor
        for of_table in model.fused_optimizer.state_dict()["state"].values()
        for state in of_table.values()
        if hasattr(state, "local_shards")
        for shard in state.local_shards()
    ]
    return sum(x.numel() * x.element_size() for x in [*weights, *states])
