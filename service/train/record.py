"""What a run writes down before its first step: configuration, plans and bytes."""

import shutil
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor

from models.layers.linear import active_matmul
from models.sizing.budget import FP32_SERVING, PROJECTION_BYTES, plan_bytes, table_bytes
from models.tables import SizingPlan
from service.checkpoint.optimizer_state import TABLES
from service.config import TrainConfig
from service.distributed import Ranks
from service.run_folder import SHARDING_FILE, SIZING_FILE, RunFolder
from service.sharding_file import write_sharding
from service.train.engine import Engine
from service.train.optimizers import EMBEDDINGS
from service.train.report import Reporter
from service.train.warm_start import warm_start_facts


def record_run(
    folder: RunFolder,
    config: TrainConfig,
    plan: SizingPlan,
    engine: Engine,
    ranks: Ranks,
    reporter: Reporter,
) -> None:
    """Write ``run.json`` and the two plans; show the tables' bytes as metrics.

    Args:
        folder: Where to.
        config: The run.
        plan: Width of every table.
        engine: The model as it is allocated.
        ranks: The ranks, who add up what they hold.
        reporter: Knows the steps of the run; its metrics get this rank's bytes by table.
    """
    held = held_bytes(engine)
    for table, num_bytes in held.items():
        reporter.metrics.table_bytes.labels(table=table, rank=str(ranks.rank)).set(num_bytes)
    by_rank = [sum(of_rank.values()) for of_rank in ranks.gather(held)]
    reporter.metrics.plan_imbalance.set(max(by_rank) * len(by_rank) / sum(by_rank))
    if not ranks.is_first:
        return
    planned = _planned(config, plan, engine)
    facts: dict[str, object] = {
        "world_size": ranks.world_size,
        "planned_steps": reporter.total_steps,
        "device": str(ranks.device),
        "matmul": active_matmul(),
        "threads": torch.get_num_threads(),
        "parameters": {"tables": planned.tables, "projections": planned.others},
        "training_bytes": {"planned": planned.training_bytes, "tables_by_rank": by_rank},
    }
    if config.warm_start is not None:
        facts["warm_start"] = warm_start_facts(config, folder)
    folder.write_run(config, facts)
    copy = folder.path / SIZING_FILE
    if config.sizing.resolve() != copy.resolve():
        shutil.copyfile(config.sizing, copy)
    write_sharding(engine.placement, folder.path / SHARDING_FILE)


@dataclass(frozen=True, slots=True)
class _Planned:
    tables: int
    others: int
    """Weights of the embeddings beside the tables: projections, or what a method has there."""
    training_bytes: int


def _planned(config: TrainConfig, plan: SizingPlan, engine: Engine) -> _Planned:
    """Weights and bytes of the embeddings, from the shapes of the tables."""
    optimizer = config.optimizer.sparse
    if config.embeddings.kind == "mixed":
        cost = plan_bytes(plan, optimizer)
        return _Planned(cost.embedding_params, cost.projection_params, cost.training_bytes)
    tables = list(config.embeddings.layout(plan).tables())
    num_bytes = sum(table_bytes(table, 0, optimizer, FP32_SERVING).total for table in tables)
    others = sum(
        weight.numel()
        for name, weight in engine.model.named_parameters()
        if name.startswith(EMBEDDINGS) and TABLES not in name
    )
    params = sum(table.num_embeddings * table.embedding_dim for table in tables)
    return _Planned(params, others, num_bytes + PROJECTION_BYTES * others)


def held_bytes(engine: Engine) -> dict[str, int]:
    """Bytes of weights and optimizer state that this rank has allocated, by table.

    Reads the tensors, not the plan: the two are to agree.
    """
    held: dict[str, int] = {}
    for key, weight in engine.model.state_dict().items():
        if ".embedding_bags." in key:
            table = _table_of(key)
            held[table] = held.get(table, 0) + _local_bytes(weight)
    for key, state in engine.optimizer.state_dict()["state"].items():
        if ".embedding_bags." in key:
            held[_table_of(key)] += sum(_local_bytes(value) for value in state.values())
    return held


def _table_of(key: str) -> str:
    return key.rpartition(".embedding_bags.")[2].removesuffix(".weight")


def _local_bytes(value: object) -> int:
    if isinstance(value, ShardedTensor):
        return sum(_local_bytes(shard.tensor) for shard in value.local_shards())
    if isinstance(value, Tensor) and value.dim() > 0:  # scalars are counters of steps
        return value.numel() * value.element_size()
    return 0
