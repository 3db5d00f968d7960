"""The form every sizing scheme has: statistics of the fields in, a plan out."""

from collections.abc import Sequence
from typing import Final, Protocol

from models.tables import WIDTH_STEP, FieldStats, SizingPlan

MAX_WIDTH: Final = 1024
"""Widest table that a budget is spent on where the scheme names no cap of its own."""


class SizingScheme(Protocol):
    """Decide how wide every field's table is.

    A scheme is a frozen dataclass tagged by ``kind`` and is called with the fields. It asks for
    real-valued widths (`Block.asked_dim`) and rounds them to what the kernels take. Under a budget
    only the *shape* of what it asks for counts: `models.sizing.budget.fit` finds the scale.
    """

    @property
    def kind(self) -> str:
        """Name of the scheme on the command line and in files."""

    @property
    def grid(self) -> Sequence[int]:
        """Widths that a budget may choose from, ascending."""

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Size every field.

        Raises:
            ValueError: If there are no fields, or a field cannot be sized.
        """


def check_width(name: str, value: int) -> None:
    """Refuse a width that FBGEMM's fused kernels do not take.

    Raises:
        ValueError: If it is not a positive multiple of 4.
    """
    if value < 1 or value % WIDTH_STEP:
        nearest = max(WIDTH_STEP, -(-value // WIDTH_STEP) * WIDTH_STEP)
        raise ValueError(
            f"{name}={value}, expected a positive multiple of {WIDTH_STEP} (FBGEMM kernels); "
            f"try {nearest}"
        )


def multiples(low: int, high: int) -> Sequence[int]:
    """Every width the kernels take from ``low`` to ``high``."""
    return range(low, high + 1, WIDTH_STEP)
