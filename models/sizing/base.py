"""The form every sizing scheme has: statistics of the fields in, a plan out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, Self, runtime_checkable

from models.sizing.rounding import Rounding, round_up
from models.tables import WIDTH_STEP, FieldStats, SizingPlan

MAX_WIDTH: Final = 1024
"""Widest table that a budget is spent on where the scheme names no cap of its own."""


class SizingScheme(Protocol):
    """Decide how wide every field's table is.

    A scheme is a frozen dataclass tagged by ``kind`` and is called with the fields. It asks for
    real-valued widths (`Block.asked_dim`) and rounds them to what the kernels take. Under a budget
    only the *shape* of what it asks for counts: `models.sizing.fit` finds the best plan.
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


@runtime_checkable
class ValuedScheme(Protocol):
    """A scheme that knows what every width is worth, not only which it would like."""

    def values(self, plan: SizingPlan) -> Mapping[str, Mapping[int, float]]:
        """By table name, what every width that the table may have is worth."""


@runtime_checkable
class FittedScheme(SizingScheme, Protocol):
    """A scheme that has a way of its own to stay within a budget, other than narrower tables."""

    def within(self, budget_bytes: int, num_bytes: Callable[[Self], int]) -> Self:
        """The same scheme within a budget; ``num_bytes`` says what a scheme's plan takes.

        Raises:
            PlanError: If nothing fits.
        """


def check_width(name: str, value: int, rounding: Rounding = "mult4") -> None:
    """Refuse a width that a rounding cannot give.

    Raises:
        ValueError: If it is not 1, 2 or a multiple of 4, or what else the rounding gives.
    """
    if value < 1 or value != round_up(value, rounding):
        expected = {
            "mult4": f"1, 2 or a multiple of {WIDTH_STEP} (FBGEMM kernels)",
            "pow2": "a power of two (rounding=pow2)",
            "int": "at least 1",
        }[rounding]
        nearest = round_up(max(value, 1), rounding)
        raise ValueError(f"{name}={value}, expected {expected}; try {nearest}")
