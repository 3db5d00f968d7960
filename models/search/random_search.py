"""Random widths that cost no more than a budget: the baseline that a search has to beat.

Source:
    RaS of the AutoDim paper (Zhao et al., *AutoDim: Field-aware Embedding Dimension Search in
    Recommender Systems*, WWW 2021): a random candidate for every field.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.tables import PlanError

NUM_SWEEPS: Final = 200
"""How often every field is drawn again."""

Costs = Mapping[str, Mapping[int, int]]
"""By field, the bytes of every width that it may have."""


def draw(costs: Costs, budget_bytes: int | None, rng: np.random.Generator) -> dict[str, int]:
    """A width for every field, all choices within the budget being equally likely.

    Without a budget each field draws alone. With one, most choices may be too large, so that
    drawing until one fits takes for ever, and scaling one down prefers some to others. Instead the
    fields are drawn again in turns, each among the widths that the others leave room for (Gibbs
    sampling): what is left after many turns is uniform over all choices that fit.

    Args:
        costs: What widths cost; costs of fields add up.
        budget_bytes: What a choice may cost, None for anything.
        rng: Where chance comes from.

    Raises:
        PlanError: If the cheapest choice does not fit.
    """
    widths = {name: sorted(of, key=lambda width: (of[width], width)) for name, of in costs.items()}
    if budget_bytes is None:
        return {name: int(rng.choice(of)) for name, of in widths.items()}
    chosen = {name: of[0] for name, of in widths.items()}
    total = sum(costs[name][width] for name, width in chosen.items())
    if total > budget_bytes:
        raise PlanError(
            f"budget of {budget_bytes:,} bytes is too small: the cheapest of the candidates take "
            f"{total:,} bytes; give --budget {total}, or narrower candidates",
            needed_bytes=total,
        )
    for _ in range(NUM_SWEEPS):
        for name, of in widths.items():
            room = budget_bytes - total + costs[name][chosen[name]]
            fitting = [width for width in of if costs[name][width] <= room]
            total -= costs[name][chosen[name]]
            chosen[name] = fitting[rng.integers(len(fitting))]
            total += costs[name][chosen[name]]
    return chosen
