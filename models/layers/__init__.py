"""Dense layers shared by the models."""

from models.layers.dots import PairwiseDots
from models.layers.linear import Linear, active_matmul, has_fast_bf16, set_matmul
from models.layers.mlp import MLP

__all__ = ["MLP", "Linear", "PairwiseDots", "active_matmul", "has_fast_bf16", "set_matmul"]
