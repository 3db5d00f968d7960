"""A dataset to size, and the command that sizes it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.__main__ import main
from tests.datasets import write_dataset

ROWS = (40, 7, 3000)


def write_sizing_data(folder: Path) -> Path:
    """Three fields, and the counts of the third: 3000, 2999, ... lookups."""
    folder.mkdir()
    write_dataset(folder, num_embeddings=ROWS, rows={"train": 64, "validation": 8, "test": 8})
    (folder / "vocab").mkdir()
    counts = pa.array(np.arange(ROWS[2], 0, -1))
    pq.write_table(pa.table({"count": counts}), folder / "vocab" / "C3.parquet")
    return folder


def size(data: Path, *flags: str) -> tuple[int, Path]:
    """Run ``mixdim size``; its exit code and the file that it writes."""
    output = data.parent / "sizing.json"
    return main(["size", str(data), "--output", str(output), *flags]), output
