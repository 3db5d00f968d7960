"""Whether another library's ids are the product's."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.bench.peers.ingest_task import LABEL, ROWS_FILE
from service.data.dataset import FieldInfo, read_dataset_info


def check_agreement(found: Path, expected: Path) -> None:
    """Compare every label, number, id, value and count.

    Args:
        found: What a contender wrote, see `service.bench.peers.ingest_task`.
        expected: Dataset folder whose training split holds all rows.

    Raises:
        ValueError: If anything differs, with the column.
    """
    info = read_dataset_info(expected)
    theirs = pq.read_table(found / ROWS_FILE)
    ours = pq.read_table([expected / part.path for part in info.splits["train"].parts])
    for name in (LABEL, *info.dense_names):
        if not np.allclose(theirs[name].to_numpy(), ours[name].to_numpy(), rtol=1e-6):
            raise ValueError(f"column {name}: {found.name} has other numbers than the product")
    for field in info.fields:
        name = field.stats.name
        ids = _their_ids_as_ours(found, expected, field)[theirs[name].to_numpy()]
        if not np.array_equal(ids, ours[name].to_numpy()):
            raise ValueError(f"field {name}: {found.name} has other ids than the product")


def _their_ids_as_ours(found: Path, expected: Path, field: FieldInfo) -> NDArray[Any]:
    """The product's id of each of theirs: of values in the same order, of missing, of rare ones."""
    name = field.stats.name
    theirs = pq.read_table(found / f"{name}.parquet")
    ours = pq.read_table(expected / "vocab" / f"{name}.parquet")
    known = np.flatnonzero(np.asarray(ours["value"].is_valid()))
    kept = ours.take(pa.array(known))
    if (theirs["value"].to_pylist(), theirs["count"].to_pylist()) != (
        kept["value"].to_pylist(),
        kept["count"].to_pylist(),
    ):
        raise ValueError(f"field {name}: {found.name} has other values than the product")
    return np.append(known, [field.missing_id, field.unknown_id])
