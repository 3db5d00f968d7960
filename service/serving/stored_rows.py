"""Rows of a table as an artifact stores them, read back in plain torch.

Integers are stored as FBGEMM's kernels have them: a row's weights, lowest bits first, and behind
them its scale and its bias as half floats; a weight is ``scale * integer + bias``.
"""

# Shapes:  R stored rows, n rows that are asked for, d width, k rows in a stored one

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.sizing import ServingDtype
from models.sizing.serving import SCALE_AND_BIAS_BYTES, WEIGHT_BITS
from models.tables import Table
from service.serving.manifest import table_file

ROWS_KEY: Final = "rows"
STORED_DTYPES: Final[Mapping[ServingDtype, torch.dtype]] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "int8": torch.uint8,
    "int4": torch.uint8,
}


class StoredRows:
    """The rows of one table.

    Args:
        table: Which table.
        rows: ``(R, stored width)`` floats, or ``(R, bytes of a row)``.
        dtype: What weights are stored as.
    """

    def __init__(self, table: Table, rows: Tensor, dtype: ServingDtype) -> None:
        self._table, self._rows, self._dtype = table, rows, dtype

    @staticmethod
    def load(folder: Path, table: Table, dtype: ServingDtype) -> "StoredRows":
        """Read a table of an artifact; its pages are read when rows of them are.

        Raises:
            ValueError: If the file does not hold the rows of this table.
        """
        path = folder / table_file(table)
        rows = load_file(path)[ROWS_KEY]
        expected = table.stored.num_embeddings
        if rows.dtype != STORED_DTYPES[dtype] or len(rows) != expected:
            raise ValueError(
                f"{path} has {len(rows)} rows of {rows.dtype}, expected {expected} of "
                f"{STORED_DTYPES[dtype]}; export the run again"
            )
        return StoredRows(table, rows, dtype)

    def vectors(self, rows: Tensor) -> Tensor:
        """Vectors ``(n, d)`` of rows ``(n,)`` of the table, in fp32."""
        packing = self._table.packing
        found = self._rows.index_select(0, rows // packing if packing > 1 else rows)
        weights = dequantised(found, self._dtype)
        if packing == 1:
            return weights
        slots = weights.view(len(rows), packing, self._table.embedding_dim)
        return slots[torch.arange(len(rows)), (rows % packing).long()]


def dequantised(rows: Tensor, dtype: ServingDtype) -> Tensor:
    """Stored rows as floats ``(n, stored width)``."""
    if rows.is_floating_point():
        return rows.float()
    integers = rows[:, :-SCALE_AND_BIAS_BYTES]
    scale_and_bias = rows[:, -SCALE_AND_BIAS_BYTES:].contiguous().view(torch.float16).float()
    if WEIGHT_BITS[dtype] == 4:
        integers = torch.stack([integers & 15, integers >> 4], dim=2).flatten(1)
    return integers.float() * scale_and_bias[:, :1] + scale_and_bias[:, 1:]
