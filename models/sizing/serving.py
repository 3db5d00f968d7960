"""Bytes of tables once they are exported: rows as FBGEMM's inference kernels store them.

A row of integers carries its own scale and bias, two half floats, behind its weights. Packed tables
are quantised as they are stored: four narrow rows of a stored one share a scale and a bias, which
costs less than one for each. Projections and all other layers stay in fp32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np

from models.sizing.solver import Cost, Ints
from models.tables import FLOAT_BYTES, PACKED_DIMS, SizingPlan, Table

BudgetFor = Literal["training", "serving"]
"""Which bytes a budget bounds."""

ServingDtype = Literal["fp32", "fp16", "int8", "int4"]
"""What a weight is stored as when it is served."""

RowAlignment = Literal[1, 16]
"""Bytes whose multiple a row takes: FBGEMM's default on CPUs, and on GPUs."""

WEIGHT_BITS: Final[Mapping[ServingDtype, int]] = MappingProxyType(
    {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
)
SCALE_AND_BIAS_BYTES: Final = 4
"""Of a row of integers."""
INTEGER_BYTES_STEP: Final = 2
"""FBGEMM quantises rows whose integers take a multiple of these bytes: even widths in int8,
multiples of 4 in int4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """How the tables of an export are stored."""

    dtype: ServingDtype = "fp32"
    """Of their weights."""

    row_alignment: RowAlignment = 1
    """16 on GPUs, and wherever TorchRec quantises a module without being told otherwise."""

    def __post_init__(self) -> None:
        if self.row_alignment not in get_args(RowAlignment):
            raise ValueError(
                f"row_alignment={self.row_alignment}, expected 1 (FBGEMM on CPUs) or 16 (on GPUs)"
            )

    @property
    def is_integer(self) -> bool:
        """Whether rows carry a scale and a bias."""
        return WEIGHT_BITS[self.dtype] <= 8

    @property
    def width_step(self) -> int:
        """Stored widths that the dtype takes are multiples of this."""
        return INTEGER_BYTES_STEP * 8 // WEIGHT_BITS[self.dtype] if self.is_integer else 1

    def takes(self, width: int) -> bool:
        """Whether a table of this width can be stored; 1 and 2 are packed into 4."""
        return width in PACKED_DIMS or width % self.width_step == 0

    def row_bytes(self, stored_dims: Ints) -> Ints:
        """Bytes of a stored row."""
        unaligned = stored_dims * WEIGHT_BITS[self.dtype] // 8
        if self.is_integer:
            unaligned = unaligned + SCALE_AND_BIAS_BYTES
        aligned: Ints = -(-unaligned // self.row_alignment) * self.row_alignment
        return aligned

    def table_bytes(self, table: Table) -> int:
        """Bytes of a table without its projection."""
        stored = table.stored
        return stored.num_embeddings * int(self.row_bytes(np.array(stored.embedding_dim)))

    @property
    def cost(self) -> "ServingCost":
        """What a solver counts."""
        return ServingCost(packed=True, per_projection_weight=FLOAT_BYTES, serving=self)

    def grid(self, widths: Sequence[int]) -> list[int]:
        """The widths that the dtype takes.

        Raises:
            ValueError: If it takes none of them.
        """
        if taken := [width for width in widths if self.takes(width)]:
            return taken
        raise ValueError(
            f"dtype {self.dtype} takes widths 1, 2 and multiples of {self.width_step}, the scheme "
            f"allows {', '.join(map(str, widths))}; use --dtype fp16, or let the scheme allow "
            f"{-(-widths[0] // self.width_step) * self.width_step}"
        )

    def check(self, plan: SizingPlan) -> None:
        """Refuse a plan with a table that the dtype does not take.

        Raises:
            ValueError: If there is one.
        """
        for table in plan.tables():
            if not self.takes(table.embedding_dim):
                raise ValueError(
                    f"table {table.name!r}: embedding_dim={table.embedding_dim}, expected 1, 2 or "
                    f"a multiple of {self.width_step} for {self.dtype} (FBGEMM kernels); use fp16, "
                    f"or size for this dtype"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingCost(Cost):
    """Bytes of tables that are served."""

    serving: Serving = Serving()
    """How they are stored."""

    def of_row(self, dims: Ints) -> Ints:
        """Bytes of one stored row of this width."""
        return self.serving.row_bytes(dims)
