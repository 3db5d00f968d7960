"""AutoDim: every field is a soft choice among candidate widths, and the choice is learned."""

# Shapes:  B batch, F fields, D width of the widest candidate, N candidates, d_n width of the n-th,
#          S columns of a field: D of a shared table, otherwise the sum of d_n

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings.base import FieldEmbeddings
from models.embeddings.choice import Pooling
from models.embeddings.mixed import bag_collection
from models.embeddings.unifier import tables_apart
from models.embeddings.vectors import FieldVectors
from models.layers.batch_norm import EPSILON, MOMENTUM
from models.layers.moments import pooled_moments
from models.layout import Layout
from models.turn import TakesTurns, Turn

COLDEST: Final = 0.01
"""Lowest temperature of the choice."""
EXAMPLES_A_TICK: Final = 2000
"""The paper cools at every batch, of this size: examples count here, whatever the batch."""


class AutoDimEmbeddings(FieldEmbeddings):
    """Tables of all candidate widths, brought to one width, and a learned mixture of them.

    Candidate ``n`` of field ``m`` is a vector of ``d_n``, either the first columns of the field's
    only table or the row of a table of its own. It is brought to ``D`` by ``W_n``, which all fields
    share, and normalised over batch and fields; or normalised and padded with zeros. The paper's
    ``b_n`` is left out: the mean that normalisation subtracts takes it away again, so that its
    gradient is rounding, by which Adam would move it at full rate. All are shortened alike, see
    `unit_length`. A field's vector is ``sum_n p_mn`` of these, ``p_m`` near a corner in the end:

        p_m = softmax_n((log softmax(theta_m) + gumbel noise) / temperature)

    One draw of noise a field and step holds for the batch, on all ranks. In evaluation ``p_m`` is
    ``softmax(theta_m)``, and before the architecture first moves it is ``1 / N``.

    Args:
        layout: One table a field, or one a field and candidate.
        candidates: Widths, rising.
        pads: Whether to pad instead of multiplying.
        decay: Fall of the temperature for every 2,000 examples.
        pretrain_examples: Examples before the architecture moves.
        pooling: The list-valued fields, and how each is pooled.
        device: Where tables are created.

    Source:
        Zhao et al., *AutoDim: Field-aware Embedding Dimension Search in Recommender Systems*, WWW
        2021, arXiv:2006.14827.
    """

    architecture: ClassVar[tuple[str, ...]] = ("mixture.theta",)

    def __init__(
        self,
        layout: Layout,
        candidates: Sequence[int],
        *,
        pads: bool = False,
        decay: float = 5e-5,
        pretrain_examples: int = 0,
        pooling: Mapping[str, Pooling] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.field_names = tuple(layout.fields)
        self.out_dim = candidates[-1]
        self.field_dims = (self.out_dim,) * len(self.field_names)
        self.decay, self.pretrain_examples = decay, pretrain_examples
        tables = list(layout.tables())
        self.candidates = tables_apart(tables, pooling)
        self.tables = bag_collection(tables, pooling, device, summed=self.candidates.summed)
        is_shared = len(tables) == len(self.field_names)
        self.mixture = Mixture(len(self.field_names), candidates, is_shared=is_shared, pads=pads)

    def take_turn(self, turn: Turn) -> None:
        """Hear what the next step moves."""
        super().take_turn(turn)
        searched = turn.num_examples - self.pretrain_examples
        is_searching = turn.moves_architecture or searched > 0 or not self.pretrain_examples
        self.mixture.temperature = temperature(searched, self.decay) if is_searching else None

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:
        """Look up all candidates of every field and mix them."""
        rows = self.candidates(self.look_up(features), features).side_by_side
        vectors = rows.unflatten(1, (len(self.field_names), -1))  # (B, F, S)
        return FieldVectors(self.mixture(vectors, weights))


class Mixture(TakesTurns):
    """Bring candidates to one width, normalise and weigh them; the weights are the architecture.

    All of it is linear once the batch's mean and covariance are known: candidate ``n`` is columns
    ``x_n`` of what was looked up, its normalised vector ``(x_n W_n - mean_n W_n) / sigma_n`` with
    ``sigma_n^2 = diag(W_n' C_n W_n) + eps``. So no candidate's vectors are ever made: a field is
    multiplied with the one matrix ``sum_n p_mn W_n / sigma_n``, times `unit_length`, and a search
    costs little more than a training.

    Shape:
        - Input: ``(B, F, S)``; weights of examples ``(B,)``, or None.
        - Output: ``(B, F * D)``.
    """

    unify: Tensor
    """All ``W_n`` under each other; where they pad, ones that are not learned, ``(sum d_n, D)``."""
    rows: Tensor
    """Where each of these rows is among all columns of all candidates, ``N * S``."""
    mean: Tensor
    """Running, of every candidate's vectors before they are normalised, ``(N, D)``."""
    variance: Tensor
    """Running, unbiased, ``(N, D)``."""

    temperature: float | None = 1.0
    """Of the choice in training; None while nothing is chosen yet and all weigh the same."""

    def __init__(
        self, num_fields: int, widths: Sequence[int], *, is_shared: bool, pads: bool
    ) -> None:
        super().__init__()
        out_dim = widths[-1]
        self.length = unit_length(num_fields, out_dim)
        ends = widths if is_shared else list(accumulate(widths))
        self.shape = (len(widths), ends[-1], out_dim)
        columns = [range(end - width, end) for end, width in zip(ends, widths, strict=True)]
        rows = [n * ends[-1] + s for n, own in enumerate(columns) for s in own]
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.theta = nn.Parameter(torch.zeros(num_fields, len(widths)))
        unify = torch.empty(len(rows), out_dim)
        for matrix in torch.split(unify, list(widths)):
            # As nn.Linear starts, transposed.
            nn.init.eye_(matrix) if pads else nn.init.kaiming_uniform_(matrix.T, a=math.sqrt(5))
        if pads:
            self.register_buffer("unify", unify, persistent=False)
        else:
            self.unify = nn.Parameter(unify)
        self.register_buffer("mean", torch.zeros(len(widths), out_dim))
        self.register_buffer("variance", torch.ones(len(widths), out_dim))

    def forward(self, vectors: Tensor, weights: Tensor | None) -> Tensor:
        """Mix the candidates of every field."""
        matrices = self._matrices()
        mean, variance = self._figures(vectors, weights, matrices)
        scales = self.length * torch.rsqrt(variance + EPSILON)  # (N, D)
        shares = self.shares()  # (F, N)
        mixed = torch.einsum("fn,nsd->fsd", shares, matrices * scales.unsqueeze(1))
        shift = shares @ (mean * scales)  # (F, D)
        fields = torch.baddbmm(-shift.unsqueeze(1), vectors.transpose(0, 1), mixed)  # (F, B, D)
        return fields.transpose(0, 1).flatten(1)

    def _matrices(self) -> Tensor:
        """All ``W``, zero for the columns that a candidate has not, ``(N, S, D)``."""
        num, columns, out_dim = self.shape
        zeros = self.unify.new_zeros(num * columns, out_dim)
        return zeros.index_copy(0, self.rows, self.unify).view(self.shape)

    def _figures(
        self, vectors: Tensor, weights: Tensor | None, matrices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of every candidate's vectors: this batch's, or the running ones."""
        if not self.training:
            return self.mean, self.variance
        num, of_columns, covariance = pooled_moments(vectors, weights)
        mean = of_columns @ matrices  # (N, D)
        variance = ((covariance @ matrices) * matrices).sum(dim=1)
        variance = variance.clamp(min=0)
        if self.turn.moves_weights:
            with torch.no_grad():
                self.mean.lerp_(mean, MOMENTUM)
                self.variance.lerp_(variance * num / (num - 1).clamp(min=1), MOMENTUM)
        return mean, variance

    def shares(self) -> Tensor:
        """``p``: how much every candidate counts in every field, ``(F, N)``."""
        if not self.training:
            return torch.softmax(self.theta, dim=1)
        if self.temperature is None:
            return torch.full_like(self.theta, 1 / self.theta.shape[1]) + 0 * self.theta
        noise = torch.rand(self.theta.shape, generator=self.turn.generator(), dtype=torch.float64)
        return gumbel_softmax(self.theta, noise.to(self.theta), self.temperature)


def unit_length(num_fields: int, out_dim: int) -> float:
    """What normalised vectors are multiplied with, so that interactions begin as large as logits.

    Normalised elements have variance 1, and the dots of all pairs of fields, which FM and DeepFM
    add up, ``out_dim * num_fields * (num_fields - 1) / 2``: logits of +-32 for 12 fields of 16
    columns, and nothing behind them can scale them down. Times this, their sum has variance 1.
    """
    num_pairs = max(1, num_fields * (num_fields - 1) // 2)
    return float((out_dim * num_pairs) ** -0.25)


def temperature(num_examples: int, decay: float) -> float:
    """``max(0.01, 1 - decay t)`` where ``t`` counts batches of 2,000 examples of the search."""
    return max(COLDEST, 1 - decay * max(num_examples, 0) / EXAMPLES_A_TICK)


def gumbel_softmax(theta: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """A nearly one-hot sample of ``softmax(theta)`` that gradients pass through.

    Args:
        theta: Logits ``(F, N)``.
        uniform: Noise in [0, 1), ``(F, N)``.
        temperature: Near 0 the sample is a corner.
    """
    tiny = torch.finfo(uniform.dtype).tiny
    inner = (-torch.log(uniform.clamp(min=tiny))).clamp(min=tiny)  # of a 1: no infinite noise
    gumbel = -torch.log(inner)
    return torch.softmax((torch.log_softmax(theta, dim=1) + gumbel) / temperature, dim=1)
