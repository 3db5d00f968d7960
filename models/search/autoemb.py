"""AutoEmb: every id is a soft choice among widths, made by its popularity."""

# Shapes:  B batch, F fields, D width of the widest candidate, N candidates, d_n width of the n-th,
#          H hidden units of a controller, P popularities

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings.base import FieldEmbeddings
from models.embeddings.choice import Surroundings
from models.embeddings.mixed import bag_collection
from models.embeddings.unifier import tables_apart
from models.embeddings.vectors import FieldVectors
from models.layers.batch_norm import ProductNorm
from models.layout import Layout
from models.search.autodim import unit_length
from models.search.popularity_runs import Runs
from models.turn import TakesTurns

NUM_HIDDEN: Final = 16


class AutoEmbEmbeddings(FieldEmbeddings):
    """Tables of all candidate widths, mixed for every id by what a controller makes of its count.

    Candidate ``n`` of a field has a table of its own, ``d_n`` wide. Its row is multiplied to ``D``
    by a matrix of field and candidate, normalised over batch and fields, squashed, and shortened by
    `unit_length`:

        e = c sum_n p_n tanh(norm(x_n W_n)),    p = softmax(controller(log count of the id))

    Every field has a controller of its own, one hidden layer. It learns from batches of the
    architecture alone, the rest from the others. Of a list the mean of the log counts counts. The
    paper's controllers are also told of the loss and of their last choice.

    Args:
        layout: One table a field and candidate.
        candidates: Widths, rising.
        runs: Popularity of every field's ids.
        given: The run's surroundings.

    Source:
        Zhao, Wang, Chen, Zheng, Liu, Tang, *AutoEmb: Automated Embedding Dimensionality Search in
        Streaming Recommendations*, ICDM 2021, arXiv:2002.11252.
    """

    architecture: ClassVar[tuple[str, ...]] = tuple(
        f"controller.{name}" for name in ("inner", "inner_bias", "outer", "outer_bias")
    )

    def __init__(
        self,
        layout: Layout,
        candidates: Sequence[int],
        runs: Mapping[str, Runs],
        given: Surroundings,
    ) -> None:
        super().__init__()
        self.field_names = tuple(layout.fields)
        self.out_dim = candidates[-1]
        self.field_dims = (self.out_dim,) * len(self.field_names)
        tables = list(layout.tables())
        self.candidates = tables_apart(tables, given.pooling)
        self.tables = bag_collection(
            tables, given.pooling, given.device, summed=self.candidates.summed
        )
        widest = {table.field: table.name for table in tables}  # the last one: ids are its rows
        self.popularity = Popularity([(widest[name], runs[name]) for name in self.field_names])
        self.controller = Controller(len(self.field_names), len(candidates))
        self.mixture = SoftMixture(len(self.field_names), candidates)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:
        """Look up all candidates of every field and mix them."""
        rows = self.candidates(self.look_up(features), features).side_by_side
        vectors = rows.unflatten(1, (len(self.field_names), -1))  # (B, F, sum of d_n)
        shares = self.controller(self.popularity(features))
        return FieldVectors(self.mixture(vectors, shares, weights))


class Popularity(nn.Module):
    """How often training looks the ids of a batch up, as the controllers are told it.

    Args:
        fields: Of every field the feature whose values are its ids, and what is known of them.

    Shape:
        - Output: ``(B, F)``, from 0 for ids that are never looked up to 1 for the most popular one
          of all; of a list the mean, of an empty one 0.
    """

    ends: Tensor
    levels: Tensor

    def __init__(self, fields: Sequence[tuple[str, Runs]]) -> None:
        super().__init__()
        self._keys = [key for key, _ in fields]
        sizes = [len(runs.ends) for _, runs in fields]
        self._bounds = list(pairwise(accumulate(sizes, initial=0)))
        ends = [end for _, runs in fields for end in runs.ends]
        levels = [level for _, runs in fields for level in runs.levels]
        self.register_buffer("ends", torch.tensor(ends), persistent=False)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)

    def forward(self, features: KeyedJaggedTensor) -> Tensor:
        """Look every id's popularity up."""
        found = []
        for key, (first, last) in zip(self._keys, self._bounds, strict=True):
            own = features[key]
            runs = torch.bucketize(own.values().long(), self.ends[first:last], right=True)
            levels = self.levels[first:last][runs]
            lengths = own.lengths()
            bags = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
            total = levels.new_zeros(len(lengths)).index_add_(0, bags, levels)
            found.append(total / lengths.clamp(min=1))
        return torch.stack(found, dim=1)


class Controller(nn.Module):
    """One small network a field, from popularity to shares of the candidates.

    The last layer starts at 0, so that candidates weigh the same in the beginning.

    Shape:
        - Input: ``(P, F)`` popularities in [0, 1].
        - Output: ``(P, F, N)``, shares that add up to 1.
    """

    def __init__(self, num_fields: int, num_candidates: int) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.empty(num_fields, NUM_HIDDEN).uniform_(-4, 4))
        self.inner_bias = nn.Parameter(torch.empty(num_fields, NUM_HIDDEN).uniform_(-2, 2))
        self.outer = nn.Parameter(torch.zeros(num_fields, NUM_HIDDEN, num_candidates))
        self.outer_bias = nn.Parameter(torch.zeros(num_fields, num_candidates))

    def forward(self, popularity: Tensor) -> Tensor:
        """Choose softly."""
        hidden = torch.tanh(popularity[..., None] * self.inner + self.inner_bias)  # (P, F, H)
        logits = torch.einsum("pfh,fhn->pfn", hidden, self.outer) + self.outer_bias
        return torch.softmax(logits, dim=2)


class SoftMixture(TakesTurns):
    """Bring candidates to one width, normalise, squash and add them up by their shares.

    What it normalises by in evaluation follows the batches of the weights alone.

    Shape:
        - Input: vectors ``(B, F, sum of d_n)``, shares ``(B, F, N)``, weights of examples ``(B,)``
          or None.
        - Output: ``(B, F * D)``.
    """

    def __init__(self, num_fields: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths, out_dim = list(widths), widths[-1]
        self.length = unit_length(num_fields, out_dim)
        self.matrices = nn.ParameterList(
            nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_fields, width, out_dim)))
            for width in widths
        )
        self.norms = nn.ModuleList(ProductNorm(1, out_dim) for _ in widths)

    def forward(self, vectors: Tensor, shares: Tensor, weights: Tensor | None) -> Tensor:
        """Mix the candidates of every example's fields."""
        mixed = vectors.new_zeros(())
        parts = torch.split(vectors, self.widths, dim=2)
        ways = zip(parts, self.matrices, self.norms, shares.unbind(dim=2), strict=True)
        for part, matrix, norm, share in ways:
            points = pad(part, (0, 1), value=1)  # (B, F, d_n + 1)
            keys = pad(matrix.transpose(1, 2), (0, 1))  # (F, D, d_n + 1)
            (keys,) = norm(points[:, None], keys[None], weights, follows=self.turn.moves_weights)
            squashed = torch.tanh(torch.bmm(points.transpose(0, 1), keys.transpose(1, 2)))
            mixed = torch.addcmul(mixed, share.T[:, :, None], squashed)  # (F, B, D)
        return self.length * mixed.transpose(0, 1).flatten(1)
