"""From a placement to TorchRec's own plan and sharders, for `DistributedModelParallel`."""

from collections.abc import Iterator, Mapping
from typing import cast

from torch import nn
from torch.distributed._shard.metadata import ShardMetadata
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.fbgemm_qcomm_codec import CommType, QCommsConfig, get_qcomm_codecs
from torchrec.distributed.planner.utils import placement as device_of
from torchrec.distributed.types import (
    CacheParams,
    CommOp,
    EmbeddingModuleShardingPlan,
    EnumerableShardingSpec,
    ModuleSharder,
    ModuleShardingPlan,
    ParameterSharding,
    QuantizedCommCodecs,
    ShardingPlan,
)
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from models.tables import FLOAT_BYTES, SparseOptimizer, Table
from sharding.cluster import Cluster
from sharding.constraints import ShardingConfig
from sharding.cost import Workload
from sharding.placement import Placement, TablePlacement
from sharding.placing import place

_POOLED_EXCHANGES = (
    CommOp.POOLED_EMBEDDINGS_ALL_TO_ALL,
    CommOp.POOLED_EMBEDDINGS_REDUCE_SCATTER,
)
_DENSE_COPIES = 4
"""A dense parameter, its gradient and the two moments of Adam."""


def place_module(
    module: nn.Module,
    cluster: Cluster,
    batch_size: int,
    config: ShardingConfig,
    *,
    pooling_factors: Mapping[str, float] | None = None,
    optimizer: SparseOptimizer = "rowwise_adagrad",
) -> Placement:
    """Give every table of a model its ranks.

    A pure function: each rank computes the same placement without asking the others.

    Args:
        module: The model, its tables on the meta device or not.
        cluster: Ranks, memory and bandwidths.
        batch_size: Examples per rank and step.
        config: Allowed ways of sharding.
        pooling_factors: Mean ids per example by table; 1 where a table is missing.
        optimizer: Optimizer of the tables; its state counts.

    Raises:
        PlanError: If the tables do not fit.
        ValueError: If the model has no tables, or two of the same name.
    """
    tables = tables_of(module)
    table_weights = sum(table.num_embeddings * table.embedding_dim for table in tables)
    all_weights = sum(parameter.numel() for parameter in module.parameters())
    workload = Workload(
        batch_size=batch_size,
        optimizer=optimizer,
        pooling_factors=pooling_factors or {},
        dense_bytes=(all_weights - table_weights) * FLOAT_BYTES * _DENSE_COPIES,
        comms=config.comms,
        gradient_comms=config.gradient_comms,
    )
    return place(tables, cluster, config, workload)


def plan_module(
    module: nn.Module,
    cluster: Cluster,
    batch_size: int,
    config: ShardingConfig,
    *,
    pooling_factors: Mapping[str, float] | None = None,
    optimizer: SparseOptimizer = "rowwise_adagrad",
) -> ShardingPlan:
    """Plan a model: `place_module`, in TorchRec's form."""
    placement = place_module(
        module,
        cluster,
        batch_size,
        config,
        pooling_factors=pooling_factors,
        optimizer=optimizer,
    )
    return to_plan(placement, module)


def to_plan(placement: Placement, module: nn.Module) -> ShardingPlan:
    """TorchRec's plan of a placement, for the collections of this model.

    Raises:
        ValueError: If the model's tables are not those of the placement.
    """
    placed = {table.name: table for table in placement.tables}
    plan: dict[str, ModuleShardingPlan] = {}
    for path, configs in _collections(module):
        plan[path] = EmbeddingModuleShardingPlan(
            {
                config.name: _parameter_sharding(_take(placed, config), placement)
                for config in configs
            }
        )
    if placed:
        raise ValueError(
            f"sharding plan: the model has no tables {sorted(placed)}; "
            f"plan the sharding of the model's own sizing"
        )
    return ShardingPlan(plan)


def sharders(config: ShardingConfig) -> list[ModuleSharder[nn.Module]]:
    """Sharders for `DistributedModelParallel`, which take what a plan says, on CPUs too."""
    sharder = EmbeddingBagCollectionSharder(qcomm_codecs_registry=_codecs(config))
    return [cast(ModuleSharder[nn.Module], sharder)]


def _codecs(config: ShardingConfig) -> dict[str, QuantizedCommCodecs] | None:
    """How vectors and gradients are rounded before they travel; None where they are not."""
    if config.comms == config.gradient_comms == "fp32":
        return None
    # No loss scale against the small numbers that fp16 lacks: TorchRec takes it back in fp16.
    qcomms = QCommsConfig(
        forward_precision=CommType(config.comms),
        backward_precision=CommType(config.gradient_comms),
    )
    # Not `get_qcomm_codecs_registry`: on CPUs it makes bf16 fp16, though gloo has it by now.
    return {op.name: get_qcomm_codecs(qcomms) for op in _POOLED_EXCHANGES}


def _collections(module: nn.Module) -> Iterator[tuple[str, list[EmbeddingBagConfig]]]:
    for path, child in module.named_modules():
        if isinstance(child, EmbeddingBagCollection):
            yield path, child.embedding_bag_configs()


def tables_of(module: nn.Module) -> list[Table]:
    """The tables of a model, as kernels hold them."""
    return [
        Table(
            name=config.name,
            field=config.name,
            num_embeddings=config.num_embeddings,
            embedding_dim=config.embedding_dim,
        )
        for _, configs in _collections(module)
        for config in configs
    ]


def _take(placed: dict[str, TablePlacement], config: EmbeddingBagConfig) -> TablePlacement:
    """Remove the placement of a table, after a look at its shape."""
    if config.name not in placed:
        raise ValueError(
            f"sharding plan: it does not place table {config.name!r}; plan the sharding again"
        )
    table = placed.pop(config.name)
    shape = config.num_embeddings, config.embedding_dim
    if (table.num_embeddings, table.embedding_dim) != shape:
        raise ValueError(
            f"table {config.name!r}: placed as {table.num_embeddings} x {table.embedding_dim}, "
            f"but the model's is {shape[0]} x {shape[1]}; plan the sharding again"
        )
    return table


def _parameter_sharding(table: TablePlacement, placement: Placement) -> ParameterSharding:
    return ParameterSharding(
        sharding_type=table.sharding_type,
        compute_kernel=table.kernel,
        ranks=[shard.rank for shard in table.shards],
        sharding_spec=_sharding_spec(table, placement),
        cache_params=None
        if table.cache_load_factor is None
        else CacheParams(load_factor=table.cache_load_factor),
    )


def _sharding_spec(table: TablePlacement, placement: Placement) -> EnumerableShardingSpec | None:
    if table.sharding_type == "data_parallel":  # copies overlap, which is no sharding to torch
        return None
    return EnumerableShardingSpec(
        [
            ShardMetadata(
                shard_offsets=[shard.first_row, shard.first_column],
                shard_sizes=list(shard.size),
                placement=device_of(placement.device, shard.rank, placement.ranks_per_host),
            )
            for shard in table.shards
        ]
    )
