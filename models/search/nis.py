"""NIS: a controller draws which cells of every table's grid are there, and learns from rewards."""

# Shapes:  F fields, J decisions of a field, K options of a decision, S row blocks of a field,
#          T column blocks, D width of a table, N tables (blocks of all fields)

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.choice import Surroundings
from models.embeddings.mixed import MixedEmbeddings
from models.embeddings.vectors import FieldVectors
from models.search.nis_options import Sizes, cells_of, reward
from models.tables import SizingPlan
from models.turn import Turn

MOMENTUM: Final = 0.9
"""Share of the baseline that stays at every reward."""


class NISEmbeddings(MixedEmbeddings):
    """Blocks of rows as wide as the model's vectors, of which a controller shows some columns.

    A field's rows, most frequent first, are cut into blocks, each a table of its own, and columns
    into blocks of equal width. Every training batch draws a sub-network from the controller's
    distribution and trains it: cells that are not drawn count as zero and do not learn. Batches of
    the architecture draw one too; their loss gives a reward, by which the controller alone learns:

        R = -loss - penalty * max(0, C / budget - 1),    grad = (R - baseline) grad log p

    ``C`` are the weights that are drawn, as a share of all. The baseline is a moving average of
    rewards. Before the architecture first moves, all is on. In evaluation the likeliest options of
    every field are. The paper multiplies columns by a matrix; here what is not there is zero, and
    the plan that is found gets its projections when it is trained.

    Args:
        given: The run's plan, of blocks as wide as the model's vectors, and its surroundings.
        sizes: Whether a field has one width, or one that falls with the rank of its ids.
        column_blocks: ``T``.
        budget_ratio: Share of all weights that costs nothing.
        penalty: What as many weights again cost.
        pretrain_examples: Examples before the architecture moves.

    Source:
        Joglekar, Li, Chen, Xu, Wang, Adams, Khaitan, Liu, Le, *Neural Input Search for Large Scale
        Recommendation Models*, KDD 2020, arXiv:1907.04471.
    """

    architecture: ClassVar[tuple[str, ...]] = ("controller.theta",)

    def __init__(
        self,
        given: Surroundings,
        *,
        sizes: Sizes,
        column_blocks: int,
        budget_ratio: float,
        penalty: float,
        pretrain_examples: int,
    ) -> None:
        super().__init__(
            given.plan,
            pooling=given.pooling,
            projection_init=given.projection_init,
            device=given.device,
        )
        self.budget_ratio, self.penalty = budget_ratio, penalty
        self.pretrain_examples = pretrain_examples
        rows = rows_of(given.plan)
        self.controller = Controller(list(rows.values()), sizes, column_blocks)
        places = [(f, s) for f, own in enumerate(rows.values()) for s in range(len(own))]
        names = [table.name for table in given.plan.tables()]
        self.cells = ShownCells(dict(zip(names, places, strict=True)), self.out_dim)

    def take_turn(self, turn: Turn) -> None:
        """Hear which step comes: the sub-network is drawn by its number."""
        super().take_turn(turn)
        is_searching = turn.moves_architecture or turn.num_examples > self.pretrain_examples
        self.controller.draw(turn.generator() if is_searching else None)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:  # noqa: ARG002
        """Look up all blocks, show the cells that are drawn, and add the blocks of a field up."""
        shown = self.cells(self.look_up(features), self.controller())
        unified: FieldVectors = self.unify(shown, features)
        return unified

    def objective(self, loss: Tensor) -> Tensor:
        """The loss where weights move; where the controller does, minus the reward it expects."""
        log_share = self.controller.log_share()
        total = (loss if self.turn.moves_weights else 0 * loss) + 0 * log_share
        if self.turn.moves_architecture:
            quality = -float(_mean_over_ranks(loss.detach()))
            cost = self.controller.cost_ratio()
            earned = reward(quality, cost, self.budget_ratio, self.penalty)
            total = total - self.controller.advantage(earned) * log_share
        return total


class Controller(nn.Module):
    """A distribution over the options of every decision, and the cells that are drawn from it.

    Args:
        rows: Rows of every field's blocks.
        sizes: What decisions are about.
        column_blocks: ``T``.
    """

    cells: Tensor
    """``(F, J, K, S, T)``: 1 where an option switches a cell on; blocks that a field has not are
    never on."""
    is_option: Tensor
    """``(F, J, K)``: whether a field has an option."""
    weights: Tensor
    """``(F, S)``: rows of every block."""
    baseline: Tensor
    """Moving average of rewards, from 0 on; see `advantage`."""
    num_rewards: Tensor

    def __init__(self, rows: Sequence[Sequence[int]], sizes: Sizes, column_blocks: int) -> None:
        super().__init__()
        most = max(map(len, rows))
        shape = cells_of(sizes, most, column_blocks).shape
        cells = np.zeros((len(rows), *shape), dtype=np.float32)
        is_option = np.zeros((len(rows), *shape[:2]), dtype=bool)
        weights = np.zeros((len(rows), most))
        for field, own in enumerate(rows):
            on = cells_of(sizes, len(own), column_blocks)
            cells[field, :, : on.shape[1], : len(own)] = on
            is_option[field, :, : on.shape[1]] = True
            weights[field, : len(own)] = own
        constants = {"cells": cells, "is_option": is_option, "weights": weights}
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)
        self.register_buffer("baseline", torch.tensor(0.0))
        self.register_buffer("num_rewards", torch.tensor(0.0))
        self.theta = nn.Parameter(torch.zeros(len(rows), *shape[:2]))
        self._drawn: Tensor | None = None

    def draw(self, generator: torch.Generator | None) -> None:
        """Draw an option for every decision ``(F, J)``; without chance, switch everything on."""
        self._drawn = None
        if generator is not None:
            noise = torch.rand(self.theta.shape, generator=generator, dtype=torch.float64)
            gumbel = -torch.log(-torch.log(noise.clamp(min=torch.finfo(noise.dtype).tiny)))
            scores = self.log_shares().detach().double() + gumbel.to(self.theta.device)
            self._drawn = scores.argmax(dim=2)

    def forward(self) -> Tensor:
        """Cells that are shown ``(F, S, T)``, 1 or 0."""
        if not self.training:
            return self.cells_at(self.likeliest())
        if self._drawn is None:
            return self.cells_at(torch.zeros_like(self.is_option[..., 0], dtype=torch.long))
        return self.cells_at(self._drawn)

    def likeliest(self) -> Tensor:
        """The likeliest option of every decision, of equals the first ``(F, J)``."""
        shares = self.log_shares()
        is_best = shares == shares.amax(dim=2, keepdim=True)
        return (is_best * torch.arange(is_best.shape[2], 0, -1, device=shares.device)).argmax(dim=2)

    def cells_at(self, options: Tensor) -> Tensor:
        """Cells that options ``(F, J)`` switch on, ``(F, S, T)``."""
        index = options[..., None, None, None].expand(-1, -1, 1, *self.cells.shape[3:])
        return self.cells.gather(2, index).squeeze(2).sum(dim=1)

    def log_shares(self) -> Tensor:
        """Log probability of every option ``(F, J, K)``."""
        return torch.log_softmax(self.theta.masked_fill(~self.is_option, -torch.inf), dim=2)

    def log_share(self) -> Tensor:
        """Log probability of what is drawn; of nothing 0."""
        if self._drawn is None:
            return 0 * self.theta.sum()
        return self.log_shares().gather(2, self._drawn[..., None]).sum()

    def cost_ratio(self) -> float:
        """Weights that are drawn, as a share of all."""
        shown = self().mean(dim=2).double()  # (F, S)
        return float((shown * self.weights).sum() / self.weights.sum())

    def advantage(self, earned: float) -> float:
        """By what a reward exceeds the mean of those before it, which it joins; 0 for the first."""
        known = 1 - MOMENTUM ** float(self.num_rewards)
        advantage = earned - float(self.baseline) / known if known else 0.0
        self.baseline.mul_(MOMENTUM).add_((1 - MOMENTUM) * earned)
        self.num_rewards.add_(1)
        return advantage


class ShownCells(nn.Module):
    """Zeros in the columns of pooled tables that are not shown; holds no tables itself.

    Args:
        places: By table, its field and its row block.
        out_dim: ``D``.

    Shape:
        - Input: a `KeyedTensor` with one key a table, in any order; cells ``(F, S, T)``.
        - Output: the same with other values.
    """

    def __init__(self, places: Mapping[str, tuple[int, int]], out_dim: int) -> None:
        super().__init__()
        self._places, self._out_dim = dict(places), out_dim

    def forward(self, pooled: KeyedTensor, cells: Tensor) -> KeyedTensor:
        """Hide columns."""
        keys = pooled.keys()
        fields, blocks = zip(*(self._places[key] for key in keys), strict=True)
        own = cells[list(fields), list(blocks)]  # (N, T)
        columns = own.repeat_interleave(self._out_dim // own.shape[1], dim=1)  # (N, D)
        return KeyedTensor(
            keys=keys,
            length_per_key=pooled.length_per_key(),
            values=pooled.values() * columns.flatten(),
        )


def rows_of(plan: SizingPlan) -> Mapping[str, list[int]]:
    """Rows of every field's blocks."""
    return {
        name: [block.num_embeddings for block in blocks] for name, blocks in plan.fields.items()
    }


def _mean_over_ranks(value: Tensor) -> Tensor:
    """The same on all ranks."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
