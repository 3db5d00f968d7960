"""TorchRec's own planner, as another way to make a placement.

It searches over types and column cuts by itself and mixes them freely, where our planner cuts as
little as memory allows. What it finds becomes a `Placement` like any other.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.proposers import (
    DynamicProgrammingProposer,
    GreedyProposer,
    GridSearchProposer,
)
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError, Proposer
from torchrec.distributed.types import EmbeddingModuleShardingPlan, ParameterSharding
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from models.tables import PlanError, SparseOptimizer, Table
from sharding.cluster import Cluster
from sharding.constraints import ShardingConfig
from sharding.cost import Workload, whole_bytes
from sharding.packing import Packer
from sharding.placement import Placement, Shard, TablePlacement, can_cut
from sharding.report import report
from sharding.tiling import check_placement

MAX_GRID_PLANS = 10_000
"""Plans that a grid search tries at most: all ways of one table times all ways of the next."""

_OPTIMIZERS: dict[SparseOptimizer, Any] = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rowwise_adagrad": RowWiseAdagrad,
    "adam": torch.optim.Adam,
    "amsgrad": torch.optim.Adam,
}
_PROPOSERS: dict[str, type[Proposer]] = {
    "greedy": GreedyProposer,
    "grid_search": GridSearchProposer,
    "dynamic_programming": DynamicProgrammingProposer,
}


def search(packer: Packer, cluster: Cluster) -> Placement:
    """Have TorchRec place the tables.

    Args:
        packer: The tables, the allowed ways of cutting them, and how they are used.
        cluster: Ranks, memory and speeds.

    Raises:
        ValueError: If a grid search would have to try too many plans.
        PlanError: If TorchRec finds no plan that fits.
    """
    tables, config, workload = packer.tables, packer.config, packer.workload
    module = nn.ModuleDict({"tables": _collection(tables, workload)})
    planner, sharders = _planner(packer, cluster, module), [_AllTypes()]
    try:
        found = planner.plan(module, sharders).plan["tables"]
    except PlannerError as error:
        raise _refusal(packer, str(error).strip().splitlines()[0]) from error
    assert isinstance(found, EmbeddingModuleShardingPlan)
    placement = Placement(
        num_ranks=cluster.num_ranks,
        ranks_per_host=cluster.local_size,
        device=cluster.device,
        tables=tuple(_placed(table, found[table.name], config) for table in tables),
    )
    check_placement(placement)
    room = _room(packer, cluster)
    fullest = max(rank.bytes for rank in report(placement, cluster, workload).ranks)
    if fullest > room:
        raise _refusal(packer, f"its plan puts {fullest:,} bytes on a rank with room for {room:,}")
    return placement


def _planner(packer: Packer, cluster: Cluster, module: nn.Module) -> EmbeddingShardingPlanner:
    config, batch_size = packer.config, packer.workload.batch_size
    free_bytes = _room(packer, cluster)
    # As if on GPUs, whose memory is what its proposers count: for them it is where tables live.
    topology = Topology(
        world_size=cluster.num_ranks,
        local_world_size=cluster.local_size,
        compute_device="cuda",
        hbm_cap=free_bytes,
        ddr_cap=free_bytes,
        hbm_mem_bw=cluster.memory_bytes_per_second / 1000,  # bytes a millisecond
        intra_host_bw=cluster.intra_host_bytes_per_second / 1000,
        inter_host_bw=cluster.inter_host_bytes_per_second / 1000,
    )
    constraints = {table.name: _constraints(table, packer, cluster) for table in packer.tables}
    enumerator = EmbeddingEnumerator(topology, batch_size, constraints)
    if config.planner == "grid_search":
        _check_grid(enumerator, module)
    return EmbeddingShardingPlanner(
        topology=topology,
        batch_size=batch_size,
        enumerator=enumerator,
        proposer=_PROPOSERS[config.planner](),
        storage_reservation=FixedPercentageStorageReservation(percentage=0),
        constraints=constraints,
        debug=False,
    )


def _room(packer: Packer, cluster: Cluster) -> int:
    """Bytes of one rank for tables, which are all on the host, or all on the device."""
    device, host = packer.free_bytes(cluster)
    return int(host or device)


class _AllTypes(EmbeddingBagCollectionSharder):
    """TorchRec's sharder, which by default refuses to cut by rows on CPUs, though it works."""

    def compute_kernels(self, sharding_type: str, compute_device_type: str) -> list[str]:  # noqa: ARG002
        return ["dense" if sharding_type == "data_parallel" else "fused"]


def _constraints(table: Table, packer: Packer, cluster: Cluster) -> ParameterConstraints:
    types = packer.config.types_of(table.name, table.num_embeddings, cluster.num_ranks)
    allowed: list[str] = [*(kind for kind in types if can_cut(table, kind, cluster))]
    if not allowed:
        allowed.append("table_wise")
    return ParameterConstraints(
        sharding_types=allowed,
        min_partition=packer.config.min_partition,
        pooling_factors=[packer.workload.pooling_factors.get(table.name, 1.0)],
    )


def _collection(tables: Sequence[Table], workload: Workload) -> EmbeddingBagCollection:
    """The tables as a module that allocates nothing; the planner reads shapes and optimizers."""
    collection = EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=table.name,
                feature_names=[table.name],
                num_embeddings=table.num_embeddings,
                embedding_dim=table.embedding_dim,
            )
            for table in tables
        ],
        device=torch.device("meta"),
    )
    for weight in collection.parameters():
        weight._optimizer_classes = [_OPTIMIZERS[workload.optimizer]]  # type: ignore[attr-defined]
    return collection


def _check_grid(enumerator: EmbeddingEnumerator, module: nn.Module) -> None:
    ways: dict[str, int] = {}
    for option in enumerator.enumerate(module, [_AllTypes()]):  # type: ignore[list-item]
        ways[option.name] = ways.get(option.name, 0) + 1
    if (plans := prod(ways.values())) > MAX_GRID_PLANS:
        most = max(ways, key=lambda name: ways[name])
        raise ValueError(
            f"grid_search: {len(ways)} tables, up to {ways[most]} ways each ({most!r}), are "
            f"{plans:.1e} plans, more than {MAX_GRID_PLANS:,}; use dynamic_programming or greedy, "
            f"or allow fewer types"
        )


def _refusal(packer: Packer, reason: str) -> PlanError:
    needed = sum(whole_bytes(table, packer.workload.optimizer) for table in packer.tables)
    return PlanError(
        f"TorchRec's {packer.config.planner} planner found no plan that fits: {reason}; allow more "
        f"types, or plan with own, which says what would do",
        needed_bytes=needed,
    )


def _placed(table: Table, found: ParameterSharding, config: ShardingConfig) -> TablePlacement:
    """One table's place in our words."""
    is_copy = found.sharding_type == "data_parallel"
    ranks = found.ranks or []
    if is_copy:
        shards = [
            Shard(rank=rank, num_rows=table.num_embeddings, num_columns=table.embedding_dim)
            for rank in sorted(ranks)
        ]
    else:
        assert found.sharding_spec is not None
        shards = [
            Shard(
                rank=rank,
                num_rows=piece.shard_sizes[0],
                num_columns=piece.shard_sizes[1],
                first_row=piece.shard_offsets[0],
                first_column=piece.shard_offsets[1],
            )
            for rank, piece in zip(ranks, found.sharding_spec.shards, strict=True)  # type: ignore[attr-defined]
        ]
    is_cached = config.kernel == "fused_uvm_caching" and not is_copy
    return TablePlacement(
        name=table.name,
        num_embeddings=table.num_embeddings,
        embedding_dim=table.embedding_dim,
        sharding_type=found.sharding_type,  # type: ignore[arg-type]
        kernel="dense" if is_copy else config.kernel,
        cache_load_factor=config.cache_load_factor if is_cached else None,
        shards=tuple(shards),
    )
