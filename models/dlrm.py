"""DLRM: dots between all pairs of fields, and between the dense vector and each of them."""

# Shapes:  B batch, F fields, D out_dim, I dense inputs, N = F + 1 vectors

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.base import Axis, CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.layers.dots import PairwiseDots
from models.layers.mlp import MLP


class DLRM(CtrModel):
    """Deep learning recommendation model.

    The dense inputs become one more vector of ``D`` elements through the bottom MLP; data without
    dense inputs has a learned constant in its place, whose dots with the fields are their
    first-order terms. The top MLP sees that vector and the ``N (N - 1) / 2`` dots.

    Args:
        embeddings: Turns features into fields ``D`` wide.
        num_dense: ``I``.
        bottom: Hidden layers before the dense vector.
        top: Hidden layers before the logit.
        dropout: Share of the hidden units of the top that a step of training leaves out.

    Source:
        Naumov et al., *Deep Learning Recommendation Model for Personalization and Recommendation
        Systems*, 2019, arXiv:1906.00091.
    """

    is_turnable: ClassVar[bool] = False  # a ReLU makes the dense vector, element by element

    def __init__(
        self,
        embeddings: FieldEmbeddings,
        num_dense: int,
        *,
        bottom: Sequence[int] = (512, 256),
        top: Sequence[int] = (512, 256),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embeddings, num_dense)
        width = embeddings.out_dim
        self.num_vectors = num_vectors = len(embeddings.field_names) + 1
        self.dense_vector: nn.Module = (
            MLP(num_dense, [*bottom, width], last_activation=True)
            if num_dense
            else ConstantVector(width)
        )
        self.interaction = PairwiseDots(num_vectors)
        num_inputs = width + num_vectors * (num_vectors - 1) // 2
        self.top = MLP(num_inputs, [*top, 1], dropout=dropout)

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """The layers that make the dense vector, and that read it and the dots."""
        last = list(self.dense_vector.named_parameters())[-2:]  # of the last layer
        made: dict[str, tuple[Axis, ...]] = {
            f"dense_vector.{name}": ("vector", "plain") if weight.dim() == 2 else ("vector",)
            for name, weight in last
        }
        return {**made, "top.0.weight": ("plain", "dots")}

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:
        """Score a batch."""
        dense_vector = self.dense_vector(dense)  # (B, D)
        vectors = fields.behind(dense_vector)
        dots = self.interaction(vectors.view(-1, self.num_vectors, self.embeddings.out_dim))
        logits: Tensor = self.top(torch.cat([dense_vector, dots], dim=1)).squeeze(1)
        return logits


class ConstantVector(nn.Module):
    """A learned vector, the same for every example."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), width**-0.5))

    def forward(self, dense: Tensor) -> Tensor:
        """Repeat the vector for a batch as long as ``dense``."""
        return self.weight.expand(dense.shape[0], -1)
