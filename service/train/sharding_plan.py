"""Which sharding plan a run takes: its --plan, the one it is resumed with, or a new one."""

import logging
from dataclasses import replace

from torch import nn

from models.layout import Layout
from models.tables import is_fused
from service.adapters import adapter_of
from service.config import TrainConfig
from service.data.dataset import DatasetInfo
from service.distributed import Ranks
from service.run_folder import RUN_FILE, SHARDING_FILE, RunFolder
from service.sharding_file import read_sharding
from sharding.cluster import Cluster, local
from sharding.constraints import HOST_TYPES, ShardingConfig
from sharding.placement import Placement
from sharding.planner import place_module, tables_of

logger = logging.getLogger(__name__)


def choose_placement(
    config: TrainConfig, info: DatasetInfo, plan: Layout, module: nn.Module, ranks: Ranks
) -> Placement:
    """Say where every table of a run lives; the first rank decides for all.

    A resumed run goes on with the plan in its folder where that fits what it resumes as.

    Args:
        config: The run.
        info: The dataset; says how many ids an example has.
        plan: Which tables there are.
        module: The model, unsharded.
        ranks: The ranks that share it.

    Raises:
        ValueError: If the plan that the run is given does not fit it.
        PlanError: If the tables do not fit on the ranks.
    """
    return ranks.from_first(lambda: _choose(config, info, plan, module, ranks))


def _choose(
    config: TrainConfig, info: DatasetInfo, plan: Layout, module: nn.Module, ranks: Ranks
) -> Placement:
    if config.plan is not None:
        placement = read_sharding(config.plan)
        if misfit := _misfit(placement, config, module, ranks):
            raise ValueError(f"{config.plan} {misfit}")
        return placement
    saved = config.output / SHARDING_FILE
    if config.resume and saved.is_file():
        placement = read_sharding(saved)
        misfit = _misfit(placement, config, module, ranks) or _change(config)
        if not misfit:
            logger.info("sharding plan: %s, as before", saved)
            return placement
        logger.warning("sharding plan: made anew, for %s %s", saved, misfit)
    poolings = {field.stats.name: field.stats.pooling_factor for field in info.fields}
    return place_module(
        module,
        _cluster(ranks),
        batch_size=config.batch_size,
        config=config.sharding,
        pooling_factors={table.name: poolings[table.field] for table in plan.tables()},
        optimizer=config.optimizer.sparse,
    )


def _misfit(
    placement: Placement, config: TrainConfig, module: nn.Module, ranks: Ranks
) -> str | None:
    """What keeps a plan from being this run's, and what to do; None where it fits."""
    again = f"run mixdim plan --ranks {ranks.world_size}"
    if placement.num_ranks != ranks.world_size:
        return (
            f"places tables on {placement.num_ranks} ranks, this job has {ranks.world_size}; "
            f"{again}"
        )
    device = "cuda" if ranks.device.type == "cuda" else "cpu"
    if placement.device != device:
        return f"is for {placement.device}, this job trains on {device}; {again}"
    by_host = [t.name for t in placement.tables if t.sharding_type in HOST_TYPES]
    if by_host and placement.local_size != ranks.local_world_size:
        return (
            f"cuts table {by_host[0]!r} over hosts of {placement.local_size} ranks, this job has "
            f"{ranks.local_world_size} on each; plan for a cluster with ranks_per_host = "
            f"{ranks.local_world_size}"
        )
    copied = all(table.sharding_type == "data_parallel" for table in placement.tables)
    if not copied and not is_fused(config.optimizer.sparse, device):
        return (
            f"shards tables, but {config.optimizer.sparse} is not fused on {device} and needs a "
            f"copy of them on every rank; run mixdim plan --optimizer {config.optimizer.sparse}"
        )
    placed = {t.name: (t.num_embeddings, t.embedding_dim) for t in placement.tables}
    sized = {t.name: (t.num_embeddings, t.embedding_dim) for t in tables_of(module)}
    for name in sorted(placed.keys() | sized.keys()):
        if placed.get(name) != sized.get(name):
            return (
                f"has table {name!r} as {_shape(placed.get(name))}, the sizing plan has it as "
                f"{_shape(sized.get(name))}; {again} --sizing {config.sizing}"
            )
    return None


def _shape(shape: tuple[int, int] | None) -> str:
    return f"{shape[0]} x {shape[1]}" if shape else "none"


def _change(config: TrainConfig) -> str | None:
    """Whether a resumed run is told to shard otherwise than before."""
    folder = RunFolder(config.output)
    if not (folder.path / RUN_FILE).is_file():
        return None
    before = folder.read_run().get("config", {}).get("sharding", {})
    if adapter_of(ShardingConfig).validate_python(before) == config.sharding:
        return None
    return "was made under other --sharding options"


def _cluster(ranks: Ranks) -> Cluster:
    """This machine, times the number of machines: hosts of a job are equal."""
    machine = local(ranks.local_world_size, "cuda" if ranks.device.type == "cuda" else "cpu")
    return replace(machine, num_ranks=ranks.world_size)
