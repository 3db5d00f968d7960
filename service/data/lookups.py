"""How often the training split looks every id up, from the dataset's vocabularies."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray


def lookups_per_id(folder: Path, field: str) -> NDArray[np.int64]:
    """Lookups of every id of a field in the training split, most frequent first ``(n,)``."""
    table = pq.read_table(folder / "vocab" / f"{field}.parquet", columns=["count"])
    counts: NDArray[np.int64] = table["count"].to_numpy()
    return counts
