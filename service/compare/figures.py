"""What a plan is, in the words of a record: its widths and its four figures."""

from collections.abc import Iterable
from dataclasses import replace

from models.sizing import plan_bytes
from models.sizing.budget import FP32_SERVING, PROJECTION_BYTES, table_bytes
from models.tables import FLOAT_BYTES, SparseOptimizer, Table
from service.config import TrainConfig
from service.sizing import SizingFile


def figures_of(sizing: SizingFile, config: TrainConfig) -> dict[str, int]:
    """The four figures of a plan under the optimizer and the network of a training."""
    # What a network does with the vectors decides whether narrow tables need projections.
    plan = replace(sizing.plan, join=config.network.join)
    cost = plan_bytes(plan, config.optimizer.sparse)
    return {
        "embedding_params": cost.embedding_params,
        "embedding_and_projection_params": cost.embedding_params + cost.projection_params,
        "training_bytes": cost.training_bytes,
        "serving_bytes": cost.serving_bytes,
    }


def figures_of_tables(
    tables: Iterable[Table],
    optimizer: SparseOptimizer,
    *,
    num_others: int = 0,
    serving_bytes: int | None = None,
) -> dict[str, int]:
    """The four figures of embeddings that look ids up in other tables than a plan's.

    Args:
        tables: Their tables.
        optimizer: What moves these.
        num_others: Weights beside the tables, which Adam moves.
        serving_bytes: Of what is exported; by default all weights as they are.
    """
    tables = list(tables)
    params = sum(table.num_embeddings * table.embedding_dim for table in tables)
    costs = [table_bytes(table, 0, optimizer, FP32_SERVING) for table in tables]
    if serving_bytes is None:
        serving_bytes = sum(cost.serving for cost in costs) + FLOAT_BYTES * num_others
    return {
        "embedding_params": params,
        "embedding_and_projection_params": params + num_others,
        "training_bytes": sum(cost.total for cost in costs) + PROJECTION_BYTES * num_others,
        "serving_bytes": serving_bytes,
    }


def widths_of(sizing: SizingFile) -> dict[str, list[int]]:
    """Used widths of every field, block by block."""
    return {
        name: [block.embedding_dim for block in blocks] for name, blocks in sizing.fields.items()
    }
