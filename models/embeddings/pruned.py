"""Tables some of whose weights are zero and stay so."""

# Shapes:  B batch, S columns of all tables

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.choice import Surroundings
from models.embeddings.mixed import MixedEmbeddings


class PrunedEmbeddings(MixedEmbeddings):
    """`MixedEmbeddings` whose zeros get no gradient, so that no optimizer ever moves them.

    The zeros are the mask: nothing is stored beside the tables, on one rank or on many, and none
    of the optimizers moves a weight without a gradient that has never had one.

    Args:
        pruned: The fields that may have zeros; one id a lookup.
        given: The run's plan and its surroundings.

    Source:
        Han et al., *Learning both Weights and Connections for Efficient Neural Networks*,
        NeurIPS 2015, arXiv:1506.02626.
    """

    def __init__(self, pruned: Collection[str], given: Surroundings) -> None:
        super().__init__(
            given.plan,
            pooling=given.pooling,
            projection_init=given.projection_init,
            device=given.device,
        )
        self.gate = Gate([table.name for table in given.plan.tables() if table.field in pruned])

    def look_up(self, features: KeyedJaggedTensor) -> KeyedTensor:
        """The pooled vectors; where they are zero no gradient passes."""
        gated: KeyedTensor = self.gate(super().look_up(features))
        return gated


class Gate(nn.Module):
    """Let no gradient through zeros of some features' vectors; holds no tables itself.

    Args:
        names: The features.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = frozenset(names)

    def forward(self, pooled: KeyedTensor) -> KeyedTensor:
        """The same values."""
        keys, widths = pooled.keys(), pooled.length_per_key()
        parts = torch.split(pooled.values(), widths, dim=1)  # (B, S) by feature
        gated = [
            _gated(part) if key in self.names else part
            for key, part in zip(keys, parts, strict=True)
        ]
        return KeyedTensor(keys, widths, torch.cat(gated, dim=1))


def _gated(vectors: Tensor) -> Tensor:
    return vectors * (vectors.detach() != 0)
