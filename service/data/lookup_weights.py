"""How much a lookup counts in the regularisation: less where its id is looked up more often."""

# Shapes:  n examples, F fields

from collections.abc import Container, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from models.tables import FieldStats
from service.data.examples import Columns, ListColumn

Floats = npt.NDArray[np.float32]
Ends = npt.NDArray[np.int32]

SMALL_ROWS: Final = 1 << 16
"""Fields of no more rows have a weight an id at hand: at most 256 KiB each."""


class LookupWeights:
    """``c(id) ** -power`` for an id that the training split looks up ``c`` times, mean 1.

    Regularising vectors as they are looked up pulls at a row as often as it is read, which
    over-regularises the head and leaves the tail alone; regularising rows once does the opposite.
    ``power`` goes from the first (0) to the second (1). Counts come from the fields' frequency
    curves, so that memory does not grow with the tables.

    Args:
        fields: Statistics of the fields, in the order of the sizing plan.
        list_fields: Names of those whose columns are lists; a list has the mean weight of its ids.
        power: In [0, 1].

    Source:
        Srebro and Salakhutdinov, *Collaborative Filtering in a Non-Uniform World*, NIPS 2010.
    """

    def __init__(
        self, fields: Sequence[FieldStats], list_fields: Container[str], *, power: float
    ) -> None:
        self._fields = [(stats.name in list_fields, _by_rank(stats, power)) for stats in fields]

    def __call__(self, columns: Columns) -> Floats:
        """Weights ``(n, F)``."""
        weights = np.empty((len(columns), len(self._fields)), dtype=np.float32)
        single, lists = iter(columns.ids), iter(columns.lists)
        for position, (is_list, table) in enumerate(self._fields):
            if is_list:
                column = next(lists)
                weights[:, position] = _means(_look_up(table, column.values), column)
            else:
                weights[:, position] = _look_up(table, next(single))
        return weights


def _by_rank(stats: FieldStats, power: float) -> tuple[Ends | None, Floats]:
    """First rank behind each piece of the frequency curve, and the weight of the piece's ids.

    Of small fields, the weight of every id, which is found faster.
    """
    curve = stats.frequency_curve or ((stats.num_embeddings, stats.num_lookups),)
    ends, below = np.array(curve, dtype=np.int64).T
    rows, lookups = np.diff(ends, prepend=0), np.diff(below, prepend=0)
    counts = np.maximum(lookups / rows, 1.0)
    weights = counts**-power
    if lookups.any():  # else the field is a list that is always empty, and nothing is weighted
        weights *= lookups.sum() / (lookups * weights).sum()
    weights = weights.astype(np.float32)
    if stats.num_embeddings <= SMALL_ROWS:
        return None, np.repeat(weights, rows)
    return ends.astype(np.int32), weights


def _look_up(table: tuple[Ends | None, Floats], ids: npt.NDArray[np.int32]) -> Floats:
    ends, weights = table
    return weights[ids if ends is None else np.searchsorted(ends, ids, side="right")]


def _means(weights: Floats, column: ListColumn) -> Floats:
    """Mean over the ids of every list; 0 for an empty one, whose vector is 0 too."""
    example = np.repeat(np.arange(len(column.lengths)), column.lengths)
    sums = np.bincount(example, weights, minlength=len(column.lengths))
    return (sums / np.maximum(column.lengths, 1)).astype(np.float32)
