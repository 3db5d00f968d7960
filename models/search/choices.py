"""The choice of a super-net, readable without torch; see `models.embeddings.choices`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.embeddings.choice import Surroundings
from models.layout import Layout
from models.tables import PACKED_DIMS, WIDTH_STEP, SizingPlan

if TYPE_CHECKING:
    from models.embeddings.base import FieldEmbeddings

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptEmbedChoice:
    """OptEmbed's super-net: every example is shown random prefixes of its fields' vectors."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    alternation: ClassVar[None] = None
    keeps_vectors: ClassVar[bool] = True

    kind: Literal["optembed"] = "optembed"

    candidates: tuple[int, ...] = (1, 2, 4, 8, 12, 16)
    """Widths of prefixes, rising; 1, 2 and multiples of 4, up to that of the plan's tables."""

    def __post_init__(self) -> None:
        check_candidates(self.candidates)

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in: those of the plan.

        Raises:
            ValueError: If fields are not one table each, all as wide as the model's vectors.
        """
        check_uniform(plan, "OptEmbed")
        if self.candidates[-1] > plan.out_dim:
            raise ValueError(
                f"candidates={self.candidates}, and the tables of the sizing plan are "
                f"{plan.out_dim} wide; leave the wider ones out, or size wider"
            )
        return plan

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module."""
        from models.search.optembed import OptEmbedEmbeddings

        self.layout(given.plan)
        return OptEmbedEmbeddings(given, self.candidates)


def check_candidates(candidates: tuple[int, ...], least: int = 1) -> None:
    """Refuse widths that tables cannot have, or that do not rise.

    Raises:
        ValueError: If they do not, or are fewer than ``least``.
    """
    odd = [d for d in candidates if d < 1 or (d % WIDTH_STEP and d not in PACKED_DIMS)]
    if len(candidates) < least or odd or list(candidates) != sorted(set(candidates)):
        raise ValueError(
            f"candidates={candidates}, expected {least} or more rising widths, each 1, 2 or a "
            f"multiple of {WIDTH_STEP}; try 2 8 16"
        )


def check_uniform(plan: SizingPlan, method: str) -> None:
    """Refuse plans other than one table a field, all as wide as the model's vectors.

    Raises:
        ValueError: If a table is a block, or narrower.
    """
    for table in plan.tables():
        if table.name != table.field or table.embedding_dim != plan.out_dim:
            raise ValueError(
                f"table {table.name!r} of the sizing plan is {table.embedding_dim} wide; {method} "
                f"searches below one table of {plan.out_dim} a field: mixdim size --scheme uniform "
                f"--scheme.dim {plan.out_dim}"
            )
