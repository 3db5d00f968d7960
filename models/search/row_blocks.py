"""Widths that fall along a field's ids: which there are, what they cost, the best that fit.

A field's ids, sorted by frequency, are cut into runs. A *profile* says how wide every run is; where
it is 0 the ids of the run, and of all behind it, share one row.
"""

# Legend: F fields, m profiles of a field

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.sizing.budget import plan_bytes
from models.sizing.knapsack import solve
from models.sizing.relaxation import Choices
from models.sizing.rounding import round_up
from models.tables import Block, Join, PlanError, SizingPlan, SparseOptimizer

Profile = tuple[int, ...]
"""Width of every run of a field; once 0, always 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """What decides how many bytes of training a field's blocks take."""

    out_dim: int
    join: Join
    optimizer: SparseOptimizer

    def of(self, blocks: Sequence[Block]) -> int:
        """Bytes of a field."""
        plan = SizingPlan(fields={"field": tuple(blocks)}, out_dim=self.out_dim, join=self.join)
        return plan_bytes(plan, self.optimizer).training_bytes


def row_ends(num_embeddings: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Where the runs of a field end; fewer than asked for where it has too few rows.

    Args:
        num_embeddings: Rows of the field.
        shares: Rising shares of the rows, up to 1.
    """
    ends = {min(num_embeddings, max(1, round(share * num_embeddings))) for share in shares}
    return tuple(sorted(ends | {num_embeddings}))


def blocks_of(profile: Profile, ends: Sequence[int], prices: Prices) -> tuple[Block, ...]:
    """The tables of a profile: a block for neighbouring runs of one width, a row for the rest."""
    blocks: list[Block] = []
    for (start, end), width in zip(pairwise((0, *ends)), profile, strict=True):
        if not width:
            return (*blocks, _shared(ends[-1] - start, blocks, prices))
        rows, used = end - start, round_up(width)
        if blocks and blocks[-1].embedding_dim == used:
            rows += blocks.pop().num_embeddings
        blocks.append(Block(num_embeddings=rows, embedding_dim=used, asked_dim=width))
    return tuple(blocks)


def _shared(num_ids: int, before: Sequence[Block], prices: Prices) -> Block:
    """One row for all rare ids, as wide as is cheapest; a projection may cost more than width."""
    widths = {1, prices.out_dim, *(block.embedding_dim for block in before)}
    rows = {
        width: Block(num_embeddings=1, embedding_dim=width, asked_dim=width, hashed_ids=num_ids - 1)
        for width in widths
    }
    return rows[min(widths, key=lambda width: (prices.of([*before, rows[width]]), -width))]


def best_blocks(
    values: Mapping[str, Mapping[Profile, float]],
    ends: Mapping[str, Sequence[int]],
    prices: Prices,
    budget_bytes: int | None,
) -> dict[str, tuple[Block, ...]]:
    """The profiles that are worth most together, of those that fit.

    Args:
        values: By field, what every profile is worth; values add up.
        ends: By field, where its runs end.
        prices: What profiles cost.
        budget_bytes: What all may cost together, None for anything; of profiles worth the same the
            cheaper one is taken.

    Raises:
        PlanError: If the cheapest profiles do not fit.
    """
    blocks = {
        name: [blocks_of(profile, ends[name], prices) for profile in of]
        for name, of in values.items()
    }
    size = max(map(len, blocks.values()))
    costs = np.zeros((len(blocks), size), dtype=np.int64)  # (F, m)
    worth = np.full((len(blocks), size), -np.inf)  # (F, m)
    for index, (name, options) in enumerate(blocks.items()):
        costs[index, : len(options)] = [prices.of(option) for option in options]
        worth[index, : len(options)] = list(values[name].values())
    chosen = _best(costs, worth, budget_bytes)
    return {
        name: options[option]
        for (name, options), option in zip(blocks.items(), chosen, strict=True)
    }


def _best(
    costs: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    worth: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    budget_bytes: int | None,
) -> list[int]:
    """The option of every field."""
    if budget_bytes is None:
        pairs = zip(costs, worth, strict=True)
        return [int(np.lexsort((own, -value))[0]) for own, value in pairs]
    choices = Choices.ordinary(costs, worth)
    solution = solve(choices, budget_bytes)
    if solution is None:
        needed = choices.cheapest().cost
        raise PlanError(
            f"budget of {budget_bytes:,} bytes is too small: the cheapest of what can be chosen "
            f"takes {needed:,} bytes; give --budget {needed}",
            needed_bytes=needed,
        )
    assert solution.pick is not None  # something fits, and nothing is asked of its value
    return [int(option) for option in solution.pick.options]
