"""Scores by how often an id was seen in training: whom does a small width hurt?

Head are the fewest ids that cover half of a field's training lookups, torso those that cover the
next 40 %, tail the rest. Values out of vocabulary, and ids without any training lookup, are
unseen: they are in no share. Ids are ranks, so each of the three is a run of ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from service.data.dataset import DatasetInfo, FieldInfo, Split, Task
from service.data.lookups import lookups_per_id

if TYPE_CHECKING:
    from service.train.evaluation import Predicted

SLICES: Final = ("head", "torso", "tail", "unseen")
HEAD_TENTHS: Final = 5
TORSO_TENTHS: Final = 4
WITHOUT_MEANING: Final = frozenset({"ne", "num_rows"})
"""Normalised entropy would compare each slice with a mean of its own; rows are counted apart."""

SliceScores = dict[str, dict[str, float]]
"""Rows, ids and scores by slice."""


def slice_of_ids(counts: npt.NDArray[np.int64], unknown_id: int) -> npt.NDArray[np.int8]:
    """Slice of every id, as a position in `SLICES`.

    Args:
        counts: Training lookups by id.
        unknown_id: Id of values out of vocabulary.
    """
    seen = counts.astype(np.int64)
    seen[unknown_id] = 0
    before = np.cumsum(seen) - seen  # lookups of more frequent ids
    # In whole numbers: a share that ends exactly with an id must not spill over.
    slices = np.where(10 * before < HEAD_TENTHS * seen.sum(), 0, 1)
    slices[10 * before >= (HEAD_TENTHS + TORSO_TENTHS) * seen.sum()] = 2
    slices[seen == 0] = 3
    return slices.astype(np.int8)


def score_slices(
    predicted: "Predicted", ids: npt.NDArray[np.int32], slices: npt.NDArray[np.int8], task: Task
) -> SliceScores:
    """Score the examples of every slice by themselves.

    Args:
        predicted: Predictions and labels of ``n`` examples.
        ids: The field's id of each, ``(n,)``.
        slices: Slice of every id.
        task: What labels are.
    """
    from service.train.evaluation import score  # torch, which checking a field does not need

    of_example = slices[ids]
    found: SliceScores = {}
    for place, name in enumerate(SLICES):
        is_here = of_example == place
        found[name] = {
            "num_ids": int((slices == place).sum()),
            "num_rows": int(is_here.sum()),
        }
        if is_here.any():
            scores = score(predicted.predictions[is_here], predicted.labels[is_here], task)
            found[name] |= {k: v for k, v in asdict(scores).items() if k not in WITHOUT_MEANING}
    return found


def by_frequency(
    predicted: "Predicted", data: Path, info: DatasetInfo, split: Split, fields: Sequence[str]
) -> dict[str, SliceScores]:
    """Scores by field and slice.

    Args:
        predicted: Predictions of the whole split, in its order.
        data: Dataset folder.
        info: Its ``dataset.json``.
        split: Which split was predicted.
        fields: Fields by whose frequency the examples are sliced.
    """
    found = {}
    for field in fields:
        unknown_id = check_slice(info, field).unknown_id
        slices = slice_of_ids(lookups_per_id(data, field), unknown_id)
        parts = [
            pq.read_table(data / part.path, columns=[field]) for part in info.splits[split].parts
        ]
        ids = np.concatenate([part[field].to_numpy() for part in parts])
        found[field] = score_slices(predicted, ids, slices, info.task)
    return found


def check_slice(info: DatasetInfo, name: str) -> FieldInfo:
    """The field that examples are to be sliced by.

    Raises:
        ValueError: If there is no such field, or an example has several ids of it.
    """
    fields: Mapping[str, FieldInfo] = {field.stats.name: field for field in info.fields}
    singles = ", ".join(name for name, field in fields.items() if not field.is_list)
    if name not in fields:
        raise ValueError(f"slices: {name!r} is not a field of the dataset; try one of {singles}")
    if fields[name].is_list:
        raise ValueError(
            f"slices: field {name!r} holds lists, so an example is in no single slice; "
            f"try one of {singles}"
        )
    return fields[name]
