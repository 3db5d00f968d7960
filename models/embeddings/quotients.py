"""The choice of two small tables a field, one read by quotients and one by remainders of ids."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isqrt
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.embeddings.choice import Surroundings
from models.layout import Layout, TableLayout
from models.tables import WIDTH_STEP, SizingPlan, Table

if TYPE_CHECKING:
    from models.embeddings.base import FieldEmbeddings

Combine = Literal["mult", "add", "concat"]
"""How the two vectors of an id become one: element by element, or one behind the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotientRemainderChoice:
    """Two tables a field: an id's vector is made of that of ``i // c`` and that of ``i % c``."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    alternation: ClassVar[None] = None
    keeps_vectors: ClassVar[bool] = False

    kind: Literal["quotient_remainder"] = "quotient_remainder"

    collisions: int = 4
    """``c``: ids that share a row of the first table, and rows of the second one; in a field of
    ``n`` ids no more than the root of ``n``, from where on rows grow again."""

    combine: Combine = "mult"
    """How the two vectors become one; halves of the width where one is put behind the other."""

    whole_rows: int = 0
    """Tables of no more rows stay one table, and so do those that would not get smaller."""

    whole_fields: tuple[str, ...] = ()
    """Fields that stay one table whatever their size. Lists must where vectors are multiplied: of a
    list only the sums of both tables' vectors are known, not the sum of the products."""

    def __post_init__(self) -> None:
        if self.collisions < 1:
            raise ValueError(f"collisions={self.collisions}, expected 1 or more; try 4")
        if self.whole_rows < 0:
            raise ValueError(f"whole_rows={self.whole_rows}, expected 0 or more; try 1000")

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in.

        Raises:
            ValueError: If a field of the plan is not one ordinary table, too narrow to be halved,
                or narrower than the vectors that the network wants.
        """
        for table in plan.tables():
            if table.name != table.field or table.hashed_ids or plan.projected_dim(table):
                raise ValueError(
                    f"table {table.name!r} of the sizing plan is a block, has hashed ids or is "
                    f"projected; quotients and remainders replace one table a field, all equally "
                    f"wide: mixdim size --scheme uniform"
                )
        of_fields = [part for table in plan.tables() for part in self._parts(table)]
        return TableLayout(fields=tuple(plan.fields), of_fields=tuple(of_fields))

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module.

        Raises:
            ValueError: If vectors of a list would have to be multiplied.
        """
        from models.embeddings.quotient_remainder import QuotientRemainderEmbeddings

        layout = self.layout(given.plan)
        split = {table.field for table in layout.tables() if table.name != table.field}
        if self.combine == "mult" and (lists := sorted(split & given.pooling.keys())):
            raise ValueError(
                f"fields {lists} are lists, whose quotients and remainders cannot be multiplied id "
                f"by id once they are pooled; name them in whole_fields, or combine by 'add' or "
                f"'concat'"
            )
        return QuotientRemainderEmbeddings(
            layout,
            field_dims=[given.plan.target_dim(table) for table in given.plan.tables()],
            combine=self.combine,
            pooling=given.pooling,
            device=given.device,
        )

    def _parts(self, table: Table) -> Iterator[Table]:
        rows = quotient_rows(table.num_embeddings, self.collisions)
        stays = table.num_embeddings <= self.whole_rows or table.field in self.whole_fields
        if stays or rows is None:
            yield table
            return
        width, rest = divmod(table.embedding_dim, 2 if self.combine == "concat" else 1)
        if rest or width % WIDTH_STEP:
            raise ValueError(
                f"table {table.name!r}: embedding_dim={table.embedding_dim}, expected a multiple "
                f"of {WIDTH_STEP * 2 if self.combine == 'concat' else WIDTH_STEP} to combine "
                f"quotients and remainders by {self.combine!r}"
            )
        quotients, remainders = rows
        for name, num_rows, ids_a_row in (
            (f"{table.field}~quotient", quotients, remainders),
            (f"{table.field}~remainder", remainders, 1),
        ):
            yield replace(
                table,
                name=name,
                num_embeddings=num_rows,
                embedding_dim=width,
                hashed_ids=table.num_embeddings - num_rows,
                ids_a_row=ids_a_row,
            )


def quotient_rows(num_ids: int, collisions: int) -> tuple[int, int] | None:
    """Rows of both tables of a field, ``(ceil(n / c), c)``; None where they save nothing."""
    collisions = min(collisions, max(1, isqrt(num_ids - 1) + 1))
    quotients = -(-num_ids // collisions)
    return (quotients, collisions) if quotients + collisions < num_ids else None
