"""A sharded model with its optimizers and pipeline, built the same way on every rank."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.distributed.types import ShardingEnv

from models.base import CtrModel
from models.embeddings.choice import Surroundings
from models.tables import SizingPlan
from service.config import TrainConfig
from service.data.dataset import DatasetInfo
from service.distributed import Ranks
from service.sizing import check_trainable
from service.train.initialise import initialise_tables
from service.train.optimizers import Optimizers, build_optimizer, fuse_optimizer
from service.train.penalty import L2Penalty
from service.train.sharding_plan import choose_placement
from service.train.task import TrainTask
from sharding.placement import Placement
from sharding.planner import sharders, to_plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """What the training loop drives."""

    model: DistributedModelParallel
    """A sharded `TrainTask`."""
    optimizer: Optimizers
    """The tables' optimizer, and Adam of everything else."""
    placement: Placement
    """Where every table lives."""


def build_engine(config: TrainConfig, info: DatasetInfo, plan: SizingPlan, ranks: Ranks) -> Engine:
    """Build, shard and initialise the model of a run.

    Args:
        config: The run.
        info: The dataset; gives the dense columns, the task and the label's mean.
        plan: The sizing plan; the embeddings that the run has chosen may lay out other tables.
        ranks: The ranks that share the model.

    Raises:
        ValueError: If the tables' optimizer does not take their widths or their sharding.
        PlanError: If the tables do not fit on the ranks.
    """
    device: Literal["cpu", "cuda"] = "cuda" if ranks.device.type == "cuda" else "cpu"
    layout = config.embeddings.layout(plan)
    check_trainable(layout, config.optimizer.sparse, device)
    torch.manual_seed(config.seed)
    task = build_task(config, info, plan, device=ranks.device, tables_on="meta")
    fuse_optimizer(task.network.embeddings.tables, config.optimizer, ranks.device)
    placement = choose_placement(config, info, layout, task, ranks)
    everyone = torch.distributed.group.WORLD
    assert everyone is not None  # joined_ranks has made it
    model = DistributedModelParallel(
        module=task,
        env=ShardingEnv.from_process_group(everyone),
        device=ranks.device,
        plan=to_plan(placement, task),
        sharders=sharders(config.sharding),
        init_data_parallel=ranks.world_size > 1,  # a wrapper around one rank only costs time
    )
    if ranks.world_size == 1:
        _unwrap_copies(model)
    initialise_tables(
        model,
        layout,
        seed=config.seed,
        init=config.table_init,
        rows_of=config.table_init_rows,
    )
    alternation = config.embeddings.alternation
    optimizer = build_optimizer(
        model,
        config.optimizer,
        architecture=task.network.embeddings.architecture,
        architecture_lr=alternation.lr if alternation else 0.0,
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
    given = Surroundings(
        plan=replace(plan, join=config.network.join),
        fields=info.field_stats,
        pooling={field.stats.name: config.pooling for field in info.fields if field.is_list},
        projection_init=config.projection_init,
        device=tables_on or device,
    )
    embeddings = config.embeddings.build(given)
    network = config.network.build(embeddings, len(info.dense))
    label_mean = info.splits["train"].label_mean
    return TrainTask(
        network,
        info.task,
        label_mean=label_mean,
        bf16_on=device.type if config.precision == "bf16" else None,
        penalty=_penalty(config, network).to(device) if config.is_regularised else None,
        clip=config.clip,
    )


def _penalty(config: TrainConfig, network: CtrModel) -> L2Penalty:
    return L2Penalty(
        network.embeddings.field_names,
        network.embeddings.field_dims,
        l2=config.l2,
        bias=_bias_penalty(config) if network.has_bias_column else None,
        growth=config.l2_growth,
        by_field=config.l2_fields,
    )


def _bias_penalty(config: TrainConfig) -> float:
    return config.l2 if config.l2_bias is None else config.l2_bias


def _unwrap_copies(model: nn.Module) -> None:
    """Take data-parallel tables out of the wrapper that would average gradients over one rank."""
    for module in model.modules():
        if isinstance(module, ShardedEmbeddingBagCollection):
            module._lookups = [
                lookup.module if isinstance(lookup, DistributedDataParallel) else lookup
                for lookup in module._lookups
            ]
