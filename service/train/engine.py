"""A sharded model with its optimizers and pipeline, built the same way on every rank."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn
from torch.distributed.optim import (
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)
from torch.optim import Optimizer
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingEnv
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from models.embeddings.mixed import MixedEmbeddings
from models.tables import SizingPlan, SparseOptimizer
from service.config import OptimizerConfig, TrainConfig
from service.data.dataset import DatasetInfo
from service.distributed import Ranks
from service.sharding_file import read_sharding
from service.train.initialise import initialise_tables
from service.train.task import TrainTask
from sharding.cluster import Cluster, local
from sharding.constraints import ShardingConfig
from sharding.placement import Placement
from sharding.planner import place_module, sharders, to_plan

SPARSE_OPTIMIZERS: Final[Mapping[SparseOptimizer, type[Optimizer]]] = {
    "rowwise_adagrad": RowWiseAdagrad,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """What the training loop drives."""

    model: DistributedModelParallel
    """A sharded `TrainTask`."""
    optimizer: CombinedOptimizer
    """Fused optimizer of the tables, Adam of everything else."""
    placement: Placement
    """Where every table lives."""


def build_engine(config: TrainConfig, info: DatasetInfo, plan: SizingPlan, ranks: Ranks) -> Engine:
    """Build, shard and initialise the model of a run.

    Args:
        config: The run.
        info: The dataset; gives the dense columns, the task and the label's mean.
        plan: Width of every table.
        ranks: The ranks that share the model.

    Raises:
        ValueError: If the device lacks the sparse optimizer.
        PlanError: If the tables do not fit on the ranks.
    """
    if config.optimizer.sparse == "adam" and ranks.device.type == "cpu":
        raise ValueError(
            "optimizer.sparse='adam' on a CPU, for which FBGEMM has no such kernel; use "
            "rowwise_adagrad, adagrad or sgd"
        )
    torch.manual_seed(config.seed)
    task = build_task(config, info, plan, device=ranks.device, tables_on="meta")
    embeddings = task.network.embeddings
    assert isinstance(embeddings, MixedEmbeddings)
    apply_optimizer_in_backward(
        SPARSE_OPTIMIZERS[config.optimizer.sparse],
        embeddings.tables.parameters(),
        _sparse_arguments(config.optimizer),
    )
    placement = _placement(config, info, plan, task, ranks)
    everyone = torch.distributed.group.WORLD
    assert everyone is not None  # joined_ranks has made it
    model = DistributedModelParallel(
        module=task,
        env=ShardingEnv.from_process_group(everyone),
        device=ranks.device,
        plan=to_plan(placement, task),
        sharders=sharders(_allowing(placement)),
        init_data_parallel=ranks.world_size > 1,  # a wrapper around one rank only costs time
    )
    initialise_tables(model, plan, seed=config.seed, init=config.table_init)
    optimizer = CombinedOptimizer(
        [model.fused_optimizer, *_unfused_optimizers(model, config.optimizer)]
    )
    return Engine(model=model, optimizer=optimizer, placement=placement)


def build_task(
    config: TrainConfig,
    info: DatasetInfo,
    plan: SizingPlan,
    *,
    device: torch.device,
    tables_on: str | None = None,
) -> TrainTask:
    """Build the network of a run, unsharded; ``tables_on="meta"`` leaves its tables unallocated."""
    embeddings = MixedEmbeddings(
        plan,
        pooling={field.stats.name: config.pooling for field in info.fields if field.is_list},
        projection_init=config.projection_init,
        device=tables_on or device,
    )
    network = config.network.build(embeddings, len(info.dense))
    label_mean = info.splits["train"].label_mean
    return TrainTask(
        network,
        info.task,
        label_mean=label_mean,
        bf16_on=device.type if config.precision == "bf16" else None,
    )


def _unfused_optimizers(
    model: DistributedModelParallel, config: OptimizerConfig
) -> Iterable[KeyedOptimizerWrapper]:
    # Data-parallel tables ignore the fused optimizer: they get the same algorithm outside of the
    # backward pass, or they would silently keep their starting values.
    tables: dict[str, nn.Parameter] = {}
    dense: dict[str, nn.Parameter] = {}
    for name, parameter in in_backward_optimizer_filter(model.named_parameters()):
        (tables if ".embedding_bags." in name else dense)[name] = parameter
    if tables:
        sparse = SPARSE_OPTIMIZERS[config.sparse]
        arguments = _sparse_arguments(config)
        yield KeyedOptimizerWrapper(tables, lambda params: sparse(params, **arguments))
    yield KeyedOptimizerWrapper(
        dense,
        lambda params: torch.optim.Adam(params, lr=config.dense_lr, eps=config.eps, fused=True),
    )


def _sparse_arguments(config: OptimizerConfig) -> dict[str, Any]:
    arguments: dict[str, Any] = {"lr": config.sparse_lr}
    if config.sparse != "sgd":
        arguments["eps"] = config.eps
    return arguments


def _placement(
    config: TrainConfig, info: DatasetInfo, plan: SizingPlan, task: TrainTask, ranks: Ranks
) -> Placement:
    """The sharding plan of the run's file, or one made for these ranks."""
    if config.plan is not None:
        placement = read_sharding(config.plan)
        if placement.num_ranks != ranks.world_size:
            raise ValueError(
                f"{config.plan} places tables on {placement.num_ranks} ranks, this job has "
                f"{ranks.world_size}; run mixdim plan --ranks {ranks.world_size}"
            )
        return placement
    poolings = {field.stats.name: field.stats.pooling_factor for field in info.fields}
    return place_module(
        task,
        _cluster(ranks),
        batch_size=config.batch_size,
        config=config.sharding,
        pooling_factors={table.name: poolings[table.field] for table in plan.tables()},
        optimizer=config.optimizer.sparse,
    )


def _allowing(placement: Placement) -> ShardingConfig:
    """A configuration that permits exactly what a placement does."""
    kernels = {table.kernel for table in placement.tables} - {"dense"}
    return ShardingConfig(
        tables={table.name: table.sharding_type for table in placement.tables},
        kernel="fused_uvm" if "fused_uvm" in kernels else "fused",
    )


def _cluster(ranks: Ranks) -> Cluster:
    """This machine, times the number of machines: hosts of a job are equal."""
    machine = local(ranks.local_world_size, "cuda" if ranks.device.type == "cuda" else "cpu")
    return replace(machine, num_ranks=ranks.world_size)
