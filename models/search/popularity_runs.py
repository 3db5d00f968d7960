"""How often training looks ids up, in runs of ids that are looked up about equally often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.tables import FieldStats


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Popularity of a field's ids, most frequent first."""

    ends: tuple[int, ...]
    """First id behind every run; the last one is the number of ids."""
    levels: tuple[float, ...]
    """``log(1 + lookups of an id)`` by run, over that of the most frequent id of all fields."""


def runs_of(fields: Sequence[FieldStats]) -> dict[str, Runs]:
    """Popularity by the fields' frequency curves; a field without one has one run."""
    ends, counts = {}, {}
    for stats in fields:
        curve = stats.frequency_curve or ((stats.num_embeddings, stats.num_lookups),)
        ranks, below = np.array(curve, dtype=np.int64).T
        ends[stats.name] = tuple(ranks.tolist())
        counts[stats.name] = np.log1p(np.diff(below, prepend=0) / np.diff(ranks, prepend=0))
    most = max((float(own.max()) for own in counts.values()), default=0.0) or 1.0
    return {
        name: Runs(ends=own, levels=tuple((counts[name] / most).tolist()))
        for name, own in ends.items()
    }
