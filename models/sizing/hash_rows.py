"""The hashing trick: several ids share a row, by the remainder of their rank."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import ClassVar, Final, Literal

from models.sizing.base import MAX_WIDTH, check_width
from models.sizing.rounding import Rounding, width_grid
from models.tables import Block, FieldStats, PlanError, SizingPlan, check_fields

RATIO_STEPS: Final = 10**9
"""Ratios that a budget chooses from, between 0 and 1: one row or less apart below a billion ids."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HashRows:
    """Give every field the same width, and fewer rows than it has ids: ``rank % rows``."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kind: Literal["hash"] = "hash"

    dim: int = 16
    """Width of every table."""

    ratio: float = 1.0
    """Rows as a share of ids, rounded up; in (0, 1]. A budget lowers it to the largest that fits,
    and leaves widths alone."""

    whole_rows: int = 0
    """Tables of no more rows are left whole."""

    rounding: Rounding = "mult4"
    """Widths that there are: 1, 2 and multiples of 4, powers of two, or any."""

    def __post_init__(self) -> None:
        check_width("dim", self.dim, self.rounding)
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio={self.ratio}, expected in (0, 1]; try 0.25")
        if self.whole_rows < 0:
            raise ValueError(f"whole_rows={self.whole_rows}, expected 0 or more; try 1000")

    @property
    def grid(self) -> Sequence[int]:
        """Every width that the rounding gives."""
        return width_grid(self.rounding, 1, MAX_WIDTH)

    def within(self, budget_bytes: int, num_bytes: Callable[["HashRows"], int]) -> "HashRows":
        """The same with the largest ratio, up to the scheme's own, that a budget allows.

        Args:
            budget_bytes: Bytes that must not be exceeded.
            num_bytes: Bytes of the plan that a scheme comes to.

        Raises:
            PlanError: If not even one row a hashed field fits.
        """
        if num_bytes(self) <= budget_bytes:
            return self
        low, high = 1, math.ceil(Fraction(repr(self.ratio)) * RATIO_STEPS)
        smallest = replace(self, ratio=low / RATIO_STEPS)
        if (needed := num_bytes(smallest)) > budget_bytes:
            lower = f"lower --whole-rows {self.whole_rows:,}, " if self.whole_rows else ""
            raise PlanError(
                f"budget of {budget_bytes:,} bytes is too small: tables {self.dim} wide take "
                f"{needed:,} bytes with one row a hashed field; give --budget {needed}, {lower}or "
                f"a narrower --dim",
                needed_bytes=needed,
            )
        while high - low > 1:
            middle = (low + high) // 2
            fits = num_bytes(replace(self, ratio=middle / RATIO_STEPS)) <= budget_bytes
            low, high = (middle, high) if fits else (low, middle)
        return replace(self, ratio=low / RATIO_STEPS)

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Give every field ``ceil(ratio * ids)`` rows."""
        check_fields(fields)
        rows = {stats.name: self._rows(stats.num_embeddings) for stats in fields}
        return SizingPlan(
            fields={
                stats.name: (
                    Block(
                        num_embeddings=rows[stats.name],
                        embedding_dim=self.dim,
                        asked_dim=float(self.dim),
                        hashed_ids=stats.num_embeddings - rows[stats.name],
                    ),
                )
                for stats in fields
            },
            out_dim=self.dim,
            scheme=asdict(self),
            reasons={
                stats.name: f"{stats.num_embeddings:,} ids share {rows[stats.name]:,} rows"
                if rows[stats.name] < stats.num_embeddings
                else "a row for every id"
                for stats in fields
            },
        )

    def _rows(self, num_ids: int) -> int:
        if num_ids <= self.whole_rows:
            return num_ids
        return math.ceil(Fraction(repr(self.ratio)) * num_ids)  # exact: 0.1 of 30 is 3, not 4
