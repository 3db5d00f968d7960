"""What is chosen for: a table of a plan, and the rows that its rare ids share behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from models.sizing.rows import RowChoice
from models.tables import Block, SizingPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A table of a plan, with the rows that its rare ids share behind it."""

    name: str
    field: str
    block: Block
    choices: tuple[RowChoice, ...]
    num_ids: int
    """Ids of the table and of its tail."""


def units_of(plan: SizingPlan, rows: Mapping[str, Sequence[RowChoice]]) -> list[Unit]:
    """The tables of a plan; a block of hashed ids behind another block is that block's tail."""
    units: list[Unit] = []
    for table, block in zip(plan.tables(), sum(plan.fields.values(), ()), strict=True):
        before = units[-1] if units and units[-1].field == table.field else None
        if block.hashed_ids and before and before.num_ids == before.block.num_ids:
            whole = RowChoice(
                num_embeddings=before.block.num_embeddings,
                tail_rows=block.num_embeddings,
                lookup_ratio=1.0,
            )
            num_ids = before.num_ids + block.num_ids
            units[-1] = replace(before, choices=(whole,), num_ids=num_ids)
            continue
        whole = RowChoice(num_embeddings=block.num_embeddings, tail_rows=0, lookup_ratio=1.0)
        units.append(
            Unit(
                name=table.name,
                field=table.field,
                block=block,
                choices=tuple(rows.get(table.name, (whole,))),
                num_ids=block.num_ids,
            )
        )
    return units


def ties(units: Sequence[Unit], *, coupled: bool) -> list[list[list[int]]]:
    """Groups of classes of units that get the same width because they ask for the same.

    Args:
        units: The units, by position.
        coupled: Whether the units of a field depend on each other. Fields are then equal as a
            whole: where their units ask for the same one after the other.
    """
    fields: dict[str, list[int]] = {}
    for index, unit in enumerate(units):
        fields.setdefault(unit.field, []).append(index)
    groups: dict[tuple[float, ...], dict[float, list[int]]] = {}
    for members in fields.values():
        wishes = [units[index].block.asked_dim for index in members]
        for index, wish in zip(members, wishes, strict=True):
            key = tuple(dict.fromkeys(wishes)) if coupled else (wish,)
            groups.setdefault(key, {}).setdefault(wish, []).append(index)
    return [list(groups[key].values()) for key in sorted(groups, reverse=True)]


def alone(units: Sequence[Unit], *, coupled: bool) -> list[list[list[int]]]:
    """Groups of classes where no two units are tied."""
    groups: dict[str, list[list[int]]] = {}
    for index, unit in enumerate(units):
        groups.setdefault(unit.field if coupled else unit.name, []).append([index])
    return [groups[name] for name in sorted(groups)]


def joined(*notes: str) -> str:
    """The reasons that are there, in one line."""
    return "; ".join(filter(None, notes))
