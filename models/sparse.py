"""What a table takes whose zeros are not stored: the formats there are, and their bytes."""

# Legend:  n rows, d columns, z weights that are not zero

from collections.abc import Mapping
from typing import Final, Literal

from models.tables import FLOAT_BYTES

Format = Literal["dense", "csr", "csc", "bitmap"]
"""All weights; or those that are not zero by rows, by columns, or behind a bit for each weight."""

BLOCK_BITS: Final = 512
"""A bitmap says before every so many bits how many of the bits before are set, so that a row is
found without counting from the first."""


def index_bytes(largest: int) -> int:
    """Bytes of an unsigned number up to the largest: 1, 2, 4 or 8."""
    return next(size for size in (1, 2, 4, 8) if largest < 1 << 8 * size)


def format_bytes(num_rows: int, dim: int, num_stored: int) -> dict[Format, int]:
    """Bytes of a table in every format, values in single precision included.

    Args:
        num_rows: ``n``.
        dim: ``d``.
        num_stored: ``z``.
    """
    num_weights = num_rows * dim
    values = FLOAT_BYTES * num_stored
    pointer = index_bytes(num_stored)
    bitmap = -(-num_weights // 8) + pointer * -(-num_weights // BLOCK_BITS)
    return {
        "dense": FLOAT_BYTES * num_weights,
        "csr": pointer * (num_rows + 1) + index_bytes(dim - 1) * num_stored + values,
        "csc": pointer * (dim + 1) + index_bytes(num_rows - 1) * num_stored + values,
        "bitmap": bitmap + values,
    }


def smallest_format(num_rows: int, dim: int, num_stored: int) -> tuple[Format, int]:
    """The format that takes the fewest bytes, and how many; a dense one of equals."""
    sizes: Mapping[Format, int] = format_bytes(num_rows, dim, num_stored)
    best = min(sizes, key=lambda name: sizes[name])
    return best, sizes[best]
