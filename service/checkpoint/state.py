"""What a checkpoint holds, and which rank writes which of it."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor

from service.checkpoint.optimizer_state import OptimizerView
from service.checkpoint.random_state import random_state
from service.distributed import Ranks


def state_to_load(
    model: nn.Module, view: OptimizerView | None, *, without: Collection[str] = ()
) -> dict[str, Any]:
    """Views of a model's weights and of its optimizer's state, but for some weights'."""
    state: dict[str, Any] = {"model": model.state_dict()}
    if view is not None:
        held = {key: of_weight for key, of_weight in view.state.items() if key not in without}
        state |= {"optimizer": {"state": held}} if held else {}
    return state


def state_to_save(model: nn.Module, view: OptimizerView, ranks: Ranks) -> dict[str, Any]:
    """Views of what this rank writes: its shards, and its share of what all ranks have."""
    weights = model.state_dict()
    copies = [key for key, weight in weights.items() if isinstance(weight, Tensor)]
    copies = [key for key in copies if not isinstance(weights[key], ShardedTensor)]
    others = set(copies) - set(copies[ranks.rank :: ranks.world_size])
    state: dict[str, Any] = {
        "model": {key: weight for key, weight in weights.items() if key not in others},
        "random": {str(ranks.rank): random_state()},
    }
    if held := {key: of_weight for key, of_weight in view.state.items() if key not in others}:
        state["optimizer"] = {"state": held}
    return state
