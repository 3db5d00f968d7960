"""How often the training split looks every id up, from the dataset's vocabularies."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


def lookups_per_id(folder: Path, field: str) -> NDArray[np.int64]:
    """Lookups of every id of a field in the training split, most frequent first ``(n,)``.

    Raises:
        FileNotFoundError: If the dataset has lost the field's vocabulary.
        ValueError: If the vocabulary cannot be read.
    """
    path = folder / "vocab" / f"{field}.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"vocabulary {path} is missing; prepare the dataset again")
    try:
        table = pq.read_table(path, columns=["count"])
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"vocabulary {path}: {error}; prepare the dataset again") from error
    counts: NDArray[np.int64] = table["count"].to_numpy()
    return counts
