"""AutoDim: every field is a soft choice among candidate widths, and the choice is learned."""

# Shapes:  B batch, F fields, D width of the widest candidate, N candidates, d_n width of the n-th

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchrec import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.base import FieldEmbeddings, Turn
from models.embeddings.choice import Pooling
from models.embeddings.mixed import bag_collection
from models.embeddings.packed import SlotSelector, feature_names, slotted
from models.embeddings.vectors import FieldVectors
from models.layers.batch_norm import PooledNorms
from models.layout import Layout
from models.tables import Table

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
    gradient is rounding, by which Adam would move it at full rate.
    The field's vector is ``sum_n p_mn`` of these, with ``p_m`` near a corner as training goes on:

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
        self.tables: EmbeddingBagCollection = bag_collection(tables, pooling, device)
        self.candidates = Candidates(tables, candidates, pooling)
        self.mixture = Mixture(len(self.field_names), candidates, pads=pads)

    def take_turn(self, turn: Turn) -> None:
        """Hear what the next step moves."""
        super().take_turn(turn)
        self.mixture.turn = turn
        searched = turn.num_examples - self.pretrain_examples
        is_searching = turn.moves_architecture or searched > 0 or not self.pretrain_examples
        self.mixture.temperature = temperature(searched, self.decay) if is_searching else None

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:
        """Look up all candidates of every field and mix them."""
        vectors = self.candidates(self.look_up(features), features)
        return FieldVectors(self.mixture(vectors, weights))


class Candidates(nn.Module):
    """The vectors of every candidate, from the pooled tables; holds no tables itself.

    Shape:
        - Input: a `KeyedTensor` with one key a feature, in any order, and the features.
        - Output: ``N`` tensors ``(B, F, d_n)``.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        widths: Sequence[int],
        pooling: Mapping[str, Pooling] | None = None,
    ) -> None:
        super().__init__()
        pooling = pooling or {}
        self.widths = list(widths)
        by_field = {name: list(own) for name, own in groupby(tables, key=lambda t: t.field)}
        self.is_shared = all(len(own) == 1 for own in by_field.values())
        self._names = [[table.name for table in own] for own in by_field.values()]
        self._select = SlotSelector(slotted(tables, pooling))
        self._slot_features = {
            table.name: (table.embedding_dim, feature_names(table, pooling), pooling[table.field])
            for table in tables
            if table.packing > 1 and table.field in pooling
        }

    def forward(self, pooled: KeyedTensor, features: KeyedJaggedTensor) -> list[Tensor]:
        """Pick every candidate's columns, or its table."""
        vectors = pooled.to_dict()  # by name: a sharded collection returns its keys in plan order
        if self.is_shared:
            widest = torch.stack([vectors[own[0]] for own in self._names], dim=1)  # (B, F, D)
            return [widest[..., :width] for width in self.widths]
        if self._select.names:
            vectors.update(self._select(pooled, features))
        for name, (width, keys, pooled_as) in self._slot_features.items():
            slots = [torch.split(vectors[key], width, dim=1)[n] for n, key in enumerate(keys)]
            vectors[name] = torch.stack(slots).sum(dim=0)
            if pooled_as == "mean":
                first = features.keys().index(keys[0])
                lengths = features.lengths().view(-1, features.stride())
                num_ids = lengths[first : first + len(keys)].sum(dim=0)
                vectors[name] = vectors[name] / num_ids.clamp(min=1).unsqueeze(1)
        return [
            torch.stack([vectors[own[n]] for own in self._names], dim=1)
            for n in range(len(self.widths))
        ]


class Mixture(nn.Module):
    """Bring candidates to one width and weigh them; the weights are the architecture.

    Shape:
        - Input: ``N`` tensors ``(B, F, d_n)``; weights of examples ``(B,)``, or None.
        - Output: ``(B, F * D)``.
    """

    turn: Turn = Turn()

    temperature: float | None = 1.0
    """Of the choice in training; None while nothing is chosen yet and all weigh the same."""

    def __init__(self, num_fields: int, widths: Sequence[int], *, pads: bool) -> None:
        super().__init__()
        self.out_dim, self.pads = widths[-1], pads
        self.theta = nn.Parameter(torch.zeros(num_fields, len(widths)))
        self.unify = nn.ModuleList(
            () if pads else (nn.Linear(width, self.out_dim, bias=False) for width in widths)
        )
        normalised = list(widths) if pads else [self.out_dim] * len(widths)
        self.norms = PooledNorms(normalised)

    def forward(self, vectors: list[Tensor], weights: Tensor | None) -> Tensor:
        """Mix the candidates of every field."""
        if not self.pads:
            vectors = [unify(x) for unify, x in zip(self.unify, vectors, strict=True)]
        vectors = self.norms(vectors, weights, follows=self.turn.moves_weights)
        if self.pads:
            vectors = [pad(x, (0, self.out_dim - x.shape[2])) for x in vectors]
        shares = self.shares()  # (F, N)
        mixed = torch.einsum("fn,nbfd->bfd", shares, torch.stack(vectors))
        return mixed.flatten(1)

    def shares(self) -> Tensor:
        """``p``: how much every candidate counts in every field, ``(F, N)``."""
        if not self.training:
            return torch.softmax(self.theta, dim=1)
        if self.temperature is None:
            return torch.full_like(self.theta, 1 / self.theta.shape[1]) + 0 * self.theta
        noise = torch.rand(self.theta.shape, generator=self.turn.generator(), dtype=torch.float64)
        return gumbel_softmax(self.theta, noise.to(self.theta), self.temperature)


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
