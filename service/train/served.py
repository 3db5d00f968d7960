"""What an export in a narrower dtype would predict: tables rounded as FBGEMM stores them."""

# Shapes:  R rows of a shard, d its width

from typing import Final, Literal

import fbgemm_gpu  # noqa: F401  (registers torch.ops.fbgemm)
import torch
from torch import Tensor, nn

from models.sizing.serving import WEIGHT_BITS
from models.tables import SizingPlan
from service.train.initialise import local_shards, table_name

RoundedDtype = Literal["fp16", "int8", "int4"]
"""What weights may be rounded to."""

CHUNK_ROWS: Final = 65_536
"""Rows that are rounded at a time, so that no second copy of a table is made."""


@torch.no_grad()
def round_tables(model: nn.Module, plan: SizingPlan, dtype: RoundedDtype) -> None:
    """Give every table, or this rank's rows of it, the values it would have in an export.

    Rows are rounded as they are stored, as TorchRec quantises a collection: the narrow rows of a
    packed table that share a stored row share its scale and bias.

    Args:
        model: Holds the tables, sharded or not, but none cut by columns.
        plan: Names and shapes of the tables.
        dtype: What their weights are rounded to.

    Raises:
        ValueError: If a weight is too large for half floats.
    """
    tables = {table.name: table for table in plan.tables()}
    for key, weight in model.state_dict().items():
        table = tables.get(table_name(key))
        if table is None:
            continue
        for shard, _, _ in local_shards(weight):
            # A scale is that of a whole row.
            assert not shard.numel() or shard.shape[1] == table.stored.embedding_dim
            for rows in torch.split(shard, CHUNK_ROWS):
                rows.copy_(rounded(rows, dtype))
                check_rounded(table.name, rows, dtype)


def rounded(rows: Tensor, dtype: RoundedDtype) -> Tensor:
    """Rows ``(R, d)`` after they were stored and read back.

    Integers are those of ``FloatToFusedNBitRowwiseQuantizedSBHalf``, which TorchRec's quantised
    modules use for both widths: scale ``(max - min) / (2^b - 1)`` and bias ``min`` as half floats.
    """
    stored = as_stored(rows, dtype)
    if dtype == "fp16":
        return stored.float()
    read: Tensor = torch.ops.fbgemm.FusedNBitRowwiseQuantizedSBHalfToFloat(
        stored, WEIGHT_BITS[dtype]
    )
    return read


def as_stored(rows: Tensor, dtype: RoundedDtype) -> Tensor:
    """Rows ``(R, d)`` as half floats, or as the bytes of integers with their scale and bias."""
    if dtype == "fp16":
        return rows.half()
    stored: Tensor = torch.ops.fbgemm.FloatToFusedNBitRowwiseQuantizedSBHalf(
        rows.contiguous(), WEIGHT_BITS[dtype]
    )
    return stored


def check_rounded(table: str, rows: Tensor, dtype: RoundedDtype) -> None:
    """Refuse weights that a half float cannot hold.

    Raises:
        ValueError: If a row that was rounded and read back is not finite.
    """
    if not rows.isfinite().all():
        raise ValueError(
            f"table {table!r}: it has weights beyond 65,504, the most a half float holds, which "
            f"{dtype} needs; serve it in fp32"
        )
