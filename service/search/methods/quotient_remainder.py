"""``mixdim search quotient-remainder``: two small tables a field; nothing is searched for."""

from dataclasses import dataclass, replace
from math import isqrt
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.embeddings.quotients import Combine, QuotientRemainderChoice
from models.tables import PlanError
from service.compare.figures import figures_of_tables
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotientRemainderSearch:
    """Two tables a field, of quotients and remainders of its ids, as many rows as fit."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = False

    kind: Literal["quotient-remainder"] = "quotient-remainder"

    collisions: int = 4
    """Ids that share a row of the first table; a budget takes the fewest with which it is kept."""

    combine: Combine = "mult"
    """How the two vectors of an id become one."""

    whole_rows: int = 0
    """Tables of no more rows stay one table."""

    def __post_init__(self) -> None:
        # Raises where they are none.
        QuotientRemainderChoice(collisions=self.collisions, whole_rows=self.whole_rows)

    def run(self, search: "Search") -> Found:
        """Choose the number of collisions by the budget alone."""
        lists = [field.stats.name for field in search.info.fields if field.is_list]
        choice = QuotientRemainderChoice(
            collisions=self.collisions,
            combine=self.combine,
            whole_rows=self.whole_rows,
            whole_fields=tuple(lists) if self.combine == "mult" else (),
        )
        if search.budget_bytes is not None:
            choice = _within(search.budget_bytes, choice, search)
        return Found(
            sizing=search.uniform(),
            embeddings=choice,
            figures=_figures(choice, search),
            notes={"collisions": choice.collisions},
        )


def _within(
    budget_bytes: int, choice: QuotientRemainderChoice, search: "Search"
) -> QuotientRemainderChoice:
    """The choice with the fewest collisions that a budget allows."""
    most = isqrt(max(stats.num_embeddings for stats in search.fields)) + 1
    least_bytes = None
    for collisions in range(1, most + 1):
        tried = replace(choice, collisions=collisions)
        needed = _figures(tried, search)["training_bytes"]
        if needed <= budget_bytes:
            return tried
        least_bytes = needed if least_bytes is None else min(least_bytes, needed)
    assert least_bytes is not None
    raise PlanError(
        f"budget of {budget_bytes:,} bytes is too small: tables of quotients and remainders that "
        f"are {search.config.dim} wide take {least_bytes:,} bytes; give --budget {least_bytes}, "
        f"or a narrower --dim",
        needed_bytes=least_bytes,
    )


def _figures(choice: QuotientRemainderChoice, search: "Search") -> dict[str, int]:
    plan = replace(search.uniform().plan, join=search.config.train.network.join)
    tables = list(choice.layout(plan).tables())
    return figures_of_tables(tables, search.config.train.optimizer.sparse)
