"""What a plan is, in the words of a record: its widths and its four figures."""

from dataclasses import replace

from models.sizing import plan_bytes
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


def widths_of(sizing: SizingFile) -> dict[str, list[int]]:
    """Used widths of every field, block by block."""
    return {
        name: [block.embedding_dim for block in blocks] for name, blocks in sizing.fields.items()
    }
