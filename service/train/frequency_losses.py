"""Loss by how often an id was seen in training, on a sample of a split: for those who watch.

The slices are those of `service.train.slices`, but their limits are read off the fields' frequency
curves, so that memory does not grow with the tables.
"""

# Shapes:  n sampled examples

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.data.dataset import DatasetInfo, FieldInfo, Split
from service.data.row_groups import SplitReader
from service.train.evaluation import Predicted
from service.train.slices import HEAD_TENTHS, SLICES, TORSO_TENTHS

SAMPLE_EXAMPLES: Final = 1 << 17
"""Examples of a split that are looked at, about."""
ROUNDING: Final = 1e-6
"""Of an id, which is less than any share of one and more than what float64 loses."""
SMALLEST: Final = 1e-7
"""Probabilities are kept this far from 0 and 1, about as far as float32 tells them apart."""


class FrequencyLosses:
    """The sampled examples of a split, and in which slice of each field they are.

    Args:
        folder: Dataset folder.
        info: Its ``dataset.json``.
        split: Which split.
        fields: The fields to slice by; those that hold lists are left out.
    """

    def __init__(self, folder: Path, info: DatasetInfo, split: Split, fields: set[str]) -> None:
        known = [f for f in info.fields if f.stats.name in fields and not f.is_list]
        names = [field.stats.name for field in known]
        self._is_click = info.task == "click"
        reader = SplitReader(folder, info, split, single_fields=names, list_fields=[])
        step = max(info.splits[split].num_rows // SAMPLE_EXAMPLES, 1)
        starts = np.cumsum([0, *(group.num_rows for group in reader.groups)])
        pieces = [np.arange(first, last) for first, last in pairwise(starts)]
        self._rows = np.concatenate(pieces[::step])
        ids = reader.read(reader.groups[::step]).ids
        self._slices = {
            field.stats.name: slices_of(field, of_field)
            for field, of_field in zip(known, ids, strict=True)
        }

    def of(self, predicted: Predicted) -> Iterator[tuple[str, str, float, int]]:
        """Field, slice, mean loss and examples of every slice.

        Args:
            predicted: Predictions of the whole split, in its order.
        """
        predictions = predicted.predictions[self._rows].astype(np.float64)
        labels = predicted.labels[self._rows].astype(np.float64)
        losses = log_losses(predictions, labels) if self._is_click else (predictions - labels) ** 2
        for field, slices in self._slices.items():
            num_rows = np.bincount(slices, minlength=len(SLICES))
            sums = np.bincount(slices, losses, minlength=len(SLICES))
            for place, name in enumerate(SLICES):
                num = int(num_rows[place])
                yield field, name, float(sums[place]) / max(num, 1), num


def slices_of(field: FieldInfo, ids: NDArray[np.int32]) -> NDArray[np.intp]:
    """Slice of every id ``(n,)``, as a position in `SLICES`."""
    stats = field.stats
    curve = stats.frequency_curve or ((stats.num_embeddings, stats.num_lookups),)
    ends, below = np.array(((0, 0), *curve), dtype=np.float64).T
    unknown = round((1 - stats.coverage_ratio) * stats.num_lookups)
    known = below - np.where(ends > field.unknown_id, unknown, 0)
    known = np.maximum.accumulate(known)
    tenths = np.array([HEAD_TENTHS, HEAD_TENTHS + TORSO_TENTHS]) / 10
    # A share that ends exactly with an id must not spill over for a rounding error.
    limits = np.ceil(np.interp(tenths * known[-1], known, ends) - ROUNDING)
    end_of_seen = ends[np.searchsorted(known, known[-1])]
    limits = np.minimum([*limits, end_of_seen], end_of_seen)
    slices = np.searchsorted(limits, ids, side="right")
    slices[ids == field.unknown_id] = SLICES.index("unseen")
    return slices


def log_losses(
    probabilities: NDArray[np.float64], labels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Negative log likelihood of every label ``(n,)``, in nats."""
    likelihoods = np.where(labels > 0, probabilities, 1 - probabilities)
    losses: NDArray[np.float64] = -np.log(np.maximum(likelihoods, SMALLEST))
    return losses
