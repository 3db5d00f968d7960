"""Where the columns of every field's vector come from, and which fields stay narrow."""

# Legend: D_f width of field f's vector, d width of a table

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

from models.embeddings.columns import Column
from models.embeddings.packed import feature_names, slotted
from models.tables import Table

Kind = Literal["narrow", "plain", "wide"]
"""``narrow``: fewer columns than the vector has elements. ``plain``: the columns are the vector.
``wide``: neither, as with several blocks of which one is as wide as the vector."""

ORDER: Final[tuple[Kind, ...]] = ("narrow", "plain", "wide")


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldColumns:
    """The columns that, each times a row of its own, add up to a field's vector."""

    position: int
    dim: int
    """``D_f``"""
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, int], ...]
    """Of every column: its table, and which of the table's ``d`` elements it is."""

    @property
    def kind(self) -> Kind:
        """Whether it pays to leave the field as it is."""
        if len(self.columns) < self.dim:
            return "narrow"
        is_vector = [element for _, element in self.rows] == list(range(self.dim))
        return "plain" if is_vector else "wide"


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldGroup:
    """Fields of a kind that have equally many columns, and equally wide vectors."""

    kind: Kind
    dim: int
    """``D_f``"""
    fields: tuple[FieldColumns, ...]

    @property
    def positions(self) -> tuple[int, ...]:
        """Of its fields."""
        return tuple(field.position for field in self.fields)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of all its fields."""
        return tuple(column for field in self.fields for column in field.columns)


def lay_out(
    blocks_of: Mapping[str, Sequence[Table]], field_dims: Sequence[int], lists: Container[str]
) -> list[FieldGroup]:
    """Group the fields: narrow ones first, then plain ones, then those to be widened.

    Args:
        blocks_of: The tables of every field.
        field_dims: ``D_f``.
        lists: The list-valued fields.
    """
    by_slot = slotted([table for blocks in blocks_of.values() for table in blocks], lists)
    owners = {table.name: owner for owner, table in enumerate(by_slot)}
    fields = []
    for position, (blocks, dim) in enumerate(zip(blocks_of.values(), field_dims, strict=True)):
        found = [read for table in blocks for read in _reads(table, lists, owners)]
        columns, rows = zip(*found, strict=True)
        fields.append(FieldColumns(position=position, dim=dim, columns=columns, rows=rows))
    ordered = sorted(fields, key=_shape)
    return [
        FieldGroup(kind=group[0].kind, dim=group[0].dim, fields=tuple(group))
        for group in (list(same) for _, same in groupby(ordered, key=_shape))
    ]


def _shape(field: FieldColumns) -> tuple[int, int, int]:
    """What fields of a group have in common; plain ones are one group, in their own order."""
    if field.kind == "plain":
        return ORDER.index("plain"), 0, 0
    return ORDER.index(field.kind), len(field.columns), field.dim


def _reads(
    table: Table, lists: Container[str], owners: Mapping[str, int]
) -> list[tuple[Column, tuple[str, int]]]:
    """A table's columns and rows: of packed tables of lists, the part of each slot's feature."""
    return [
        (
            Column(
                key=name,
                column=slot * table.embedding_dim + element,
                step=table.embedding_dim if table.name in owners else 0,
                owner=owners.get(table.name, 0),
            ),
            (table.name, element),
        )
        for slot, name in enumerate(feature_names(table, lists))
        for element in range(table.embedding_dim)
    ]
