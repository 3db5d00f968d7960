"""OptEmbed's super-net: one training that serves every choice of widths."""

# Shapes:  B batch on this rank, F fields, D width, N candidate widths

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings.choice import Surroundings
from models.embeddings.mixed import MixedEmbeddings
from models.embeddings.vectors import FieldVectors
from models.turn import TakesTurns, Turn


class OptEmbedEmbeddings(MixedEmbeddings):
    """Tables of one width, of whose vectors training shows a random prefix each time.

    The width is drawn anew for every example and field, all candidates being equally likely; what
    is behind it counts as zero. So the first columns learn to do without the later ones, and the
    layers to read any mixture of widths: afterwards every choice of widths can be judged without
    training it. In evaluation vectors are whole.

    Args:
        given: The run's plan, of equally wide tables, and its surroundings.
        candidates: Widths to draw from.

    Source:
        Lyu, Tang, Zhu, Guo, He, Tang, Liu, *OptEmbed: Learning Optimal Embedding Table for
        Click-through Rate Prediction*, CIKM 2022, arXiv:2208.04482, section 3.2; without its row
        mask.
    """

    def __init__(self, given: Surroundings, candidates: Sequence[int]) -> None:
        super().__init__(
            given.plan,
            pooling=given.pooling,
            projection_init=given.projection_init,
            device=given.device,
        )
        self.prefixes = RandomPrefixes(len(self.field_names), candidates, self.out_dim)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:
        """Look up every field, and hide what is behind the widths that are drawn."""
        return FieldVectors(self.prefixes(super().forward(features, weights).side_by_side))


class RandomPrefixes(TakesTurns):
    """Zeros behind a random width of every example's fields; holds no tables itself.

    An example's draws follow from the run's seed, the step and its position in the global batch
    alone, so that they are the same on 1 rank as on 8, and in a run that is resumed.

    Shape:
        - Input and output: ``(B, F * D)``.
    """

    shown: Tensor
    """``(N, D)``: 1 for the columns of a candidate."""

    def __init__(self, num_fields: int, candidates: Sequence[int], out_dim: int) -> None:
        super().__init__()
        self.num_fields = num_fields
        columns = torch.arange(out_dim)
        self.register_buffer(
            "shown",
            (columns < torch.tensor(candidates)[:, None]).float(),
            persistent=False,
        )

    def forward(self, fields: Tensor) -> Tensor:
        """Hide columns in training."""
        if not self.training:
            return fields
        rank = dist.get_rank() if dist.is_initialized() else 0
        drawn = draws(self.turn, len(fields), self.num_fields, len(self.shown), rank)
        masks = self.shown[torch.from_numpy(drawn).to(fields.device)]  # (B, F, D)
        return fields * masks.flatten(1)


def draws(
    turn: Turn, num_examples: int, num_fields: int, num_candidates: int, rank: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Candidates of a rank's examples ``(B, F)``, which are that many behind those of ranks before.

    One number of the generator is one draw, so that a rank can pass over those of the others.
    """
    bits = np.random.PCG64(np.random.SeedSequence([turn.seed, turn.step]))
    bits.advance(rank * num_examples * num_fields)
    chance = np.random.Generator(bits).random((num_examples, num_fields))
    return (chance * num_candidates).astype(np.int64)
