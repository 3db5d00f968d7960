"""Which tables a set of embeddings has: those of a sizing plan, or others of the same fields."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from models.tables import Table


class Layout(Protocol):
    """What reading, sharding and initialising tables needs to know; a `SizingPlan` is one."""

    @property
    def fields(self) -> Collection[str]:
        """Fields in the order of the dataset."""

    def tables(self) -> Iterator[Table]:
        """Every table of every field, in the order of the fields."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLayout:
    """Tables that are no blocks: an id may have a row in several of its field's."""

    fields: tuple[str, ...]
    """Fields in the order of the dataset."""

    of_fields: tuple[Table, ...]
    """Tables in the order of the fields; those of a field stand together."""

    def tables(self) -> Iterator[Table]:
        """Every table of every field, in the order of the fields."""
        yield from self.of_fields
