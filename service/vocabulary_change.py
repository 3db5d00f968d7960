"""Which id a value had in another dataset: ids are ranks, so that a grown dataset permutes them.

Values are looked up as ``prepare`` looks them up, in the vocabularies of both datasets: a value
that the old one did not know was out of vocabulary there, and that is the id it had. "Missing" and
"out of vocabulary" are themselves in both.
"""

# Shapes:  n ids of a field in the new dataset

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.data.dataset import DATASET_FILE, DatasetInfo, FieldInfo, read_dataset_info
from service.data.ingest.vocabulary import ValueIndex, Vocabulary
from service.data.readers.base import Strings

logger = logging.getLogger(__name__)

CHUNK_VALUES: Final = 1 << 20
"""Values that are looked up at a time."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class IdChange:
    """The ids of one field: what each was before."""

    num_ids: int
    old_ids: Ids | None = None
    """``(n,)``; of a new value that of "out of vocabulary". None where all ids are as they were."""
    is_new: NDArray[np.bool_] | None = None
    """``(n,)``: whether the old dataset did not know the value."""
    num_dropped: int = 0
    """Values that only the old dataset knows."""

    @property
    def num_new(self) -> int:
        """Values that only the new dataset knows."""
        return 0 if self.is_new is None else int(self.is_new.sum())

    @property
    def is_same(self) -> bool:
        """Whether every id is as it was."""
        return self.old_ids is None

    def before(self, first: int, end: int) -> tuple[Ids, NDArray[np.bool_]]:
        """What the ids ``first`` to ``end`` were, and whether they are new values."""
        if self.old_ids is None or self.is_new is None:
            return np.arange(first, end), np.zeros(end - first, dtype=np.bool_)
        return self.old_ids[first:end], self.is_new[first:end]


def id_changes(
    old: Path, new: Path, fields: Iterable[str], *, old_sha256: str
) -> dict[str, IdChange]:
    """What became of the ids of every field that both datasets have.

    Args:
        old: Folder that the run was trained on; only read where the two differ.
        new: Folder that it is to go on with.
        fields: Fields of the run.
        old_sha256: What the old one's content was, from the run's checkpoint.

    Raises:
        ValueError: If the datasets differ and the old one is no longer there, or a field or the
            dense columns are not what they were.
    """
    info = read_dataset_info(new)
    here = {field.stats.name: field for field in info.fields}
    names = [name for name in fields if name in here]
    if info.content_sha256 == old_sha256:
        return {name: IdChange(here[name].stats.num_embeddings) for name in names}
    before = _old_info(old, new, old_sha256)
    if before.dense_names != info.dense_names or before.task != info.task:
        raise ValueError(
            f"{new} has the dense columns {list(info.dense_names)} and {info.task} labels, {old} "
            f"had {list(before.dense_names)} and {before.task} labels; only fields may come and go"
        )
    there = {field.stats.name: field for field in before.fields}
    return {name: _change(old, new, there[name], here[name]) for name in names}


def check_same_ids(old: Path, new: Path, fields: Iterable[str], *, old_sha256: str) -> None:
    """Refuse a dataset whose ids are not those that a run has learned; warn where nobody can tell.

    Args:
        old: Folder that the run was trained on.
        new: Folder that it is used with.
        fields: Fields of the run.
        old_sha256: What the old one's content was, from the run's checkpoint.

    Raises:
        ValueError: If an id means another value.
    """
    if read_dataset_info(new).content_sha256 == old_sha256:
        return
    is_there = (old / DATASET_FILE).is_file()
    if not is_there or read_dataset_info(old).content_sha256 != old_sha256:
        logger.warning(
            "%s is another dataset than the run was trained on, which is no longer in %s: scores "
            "mean nothing if ids were given to other values",
            new,
            old,
        )
        return
    changes = id_changes(old, new, fields, old_sha256=old_sha256)
    if changed := [name for name, change in changes.items() if not change.is_same]:
        raise ValueError(
            f"field {changed[0]!r}: ids mean other values in {new} than in {old}, which the run "
            f"was trained on; use that one, or take the run to the new one with mixdim train "
            f"--resume-from"
        )


def _old_info(old: Path, new: Path, sha256: str) -> DatasetInfo:
    is_there = (old / DATASET_FILE).is_file()
    info = read_dataset_info(old) if is_there else None
    if info is None or info.content_sha256 != sha256:
        raise ValueError(
            f"{new} is another dataset than the run was trained on, and its ids mean other values; "
            f"the run's own {old} is {'another one, too' if is_there else 'no longer there'}: name "
            f"a folder with the dataset as it was, --resume-data FOLDER"
        )
    return info


def _change(old: Path, new: Path, before: FieldInfo, after: FieldInfo) -> IdChange:
    """Look every value of the new vocabulary up in the old one."""
    name = after.stats.name
    if before.is_list != after.is_list:
        kinds = {True: "lists", False: "single values"}
        raise ValueError(
            f"field {name!r} holds {kinds[after.is_list]} in {new}, and held "
            f"{kinds[before.is_list]} in {old}; give the field another name"
        )
    old_values, new_values = _values(old, name), _values(new, name)
    index = ValueIndex(
        Vocabulary(
            values=old_values,
            counts=np.zeros(len(old_values), dtype=np.int64),
            missing_id=before.missing_id,
            unknown_id=before.unknown_id,
            num_distinct=before.num_distinct,
        )
    )
    pieces = [
        index.ids_of(new_values.slice(first, CHUNK_VALUES))[:-1]
        for first in range(0, len(new_values), CHUNK_VALUES)
    ]
    old_ids = np.concatenate(pieces).astype(np.int64)
    is_new: NDArray[np.bool_] = old_ids == before.unknown_id
    for now, then in (
        (after.missing_id, before.missing_id),
        (after.unknown_id, before.unknown_id),
    ):
        old_ids[now], is_new[now] = then, False
    kept = len(old_ids) - int(is_new.sum())
    if kept == len(old_values) == len(old_ids) and (old_ids == np.arange(kept)).all():
        return IdChange(kept)
    return IdChange(len(old_ids), old_ids, is_new, num_dropped=len(old_values) - kept)


def _values(folder: Path, name: str) -> Strings:
    """Values in the order of ids; empty for the two special ids, which are known by number."""
    path = folder / "vocab" / f"{name}.parquet"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, and only vocabularies tell which value an id stands for; "
            f"prepare the dataset again, or copy its vocab folder there"
        )
    values = pq.read_table(path, columns=["value"])["value"]
    return values.combine_chunks().cast(pa.large_string()).fill_null("")
