"""How many rows of a table are worth having: the rest of its ids share a few."""

# Legend: n rows of a table, R of them kept; the tail are the n - R ids that are looked up least.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from models.tables import Block, FieldStats, SizingPlan

Entry = TypeVar("Entry")

SHORTEST_TAIL: Final = 16
"""Ids that a tail has at least: fewer are not worth a table of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowChoice:
    """One way to cut the tail off a table."""

    num_embeddings: int
    """Rows kept, those of the most frequent ids."""

    tail_rows: int
    """Rows that the ids of the tail share; 0 where there is no tail."""

    lookup_ratio: float
    """Share of the table's lookups whose id keeps a row of its own."""


def tail_rows(num_ids: int, hash_ratio: float) -> int:
    """Rows of a tail: one, or a share of its ids where they are hashed."""
    return min(num_ids, max(1, round(num_ids * hash_ratio))) if num_ids else 0


def row_choices(stats: FieldStats, hash_ratio: float = 0.0) -> list[RowChoice]:
    """Cut a table at every point of its frequency curve, and not at all.

    Args:
        stats: Statistics of the field, or of one of its runs.
        hash_ratio: Rows of the tail as a share of its ids; 0 for a single row.
    """
    n, all_lookups = stats.num_embeddings, max(1, stats.num_lookups)
    choices = [
        RowChoice(
            num_embeddings=rank,
            tail_rows=tail_rows(n - rank, hash_ratio),
            lookup_ratio=min(1.0, lookups / all_lookups),
        )
        for rank, lookups in stats.frequency_curve
        if 1 <= rank <= n - SHORTEST_TAIL
    ]
    return [*choices, RowChoice(num_embeddings=n, tail_rows=0, lookup_ratio=1.0)]


def rows_above(counts: ArrayLike, min_lookups: int) -> int:
    """Rows whose id is looked up at least ``min_lookups`` times; counts fall."""
    return int(np.searchsorted(-np.asarray(counts), -min_lookups, side="right"))


def cut_tail(blocks: Sequence[Block], kept: int, hash_ratio: float = 0.0) -> tuple[Block, ...]:
    """A field's blocks with the ids from position ``kept`` on in one block of shared rows.

    The tail asks for the width of the block that it is cut from. A tail of one id keeps its row.
    """
    num_ids = sum(block.num_ids for block in blocks)
    if kept >= num_ids - 1:
        return tuple(blocks)
    heads, first_id = [], 0
    for block in blocks:
        if ids := min(block.num_ids, max(0, kept - first_id)):
            rows = min(block.num_embeddings, ids)
            heads.append(replace(block, num_embeddings=rows, hashed_ids=ids - rows))
        first_id += block.num_ids
    rows = tail_rows(num_ids - kept, hash_ratio)
    last = heads[-1] if heads else blocks[0]
    tail = replace(last, num_embeddings=rows, hashed_ids=num_ids - kept - rows)
    return (*heads, tail)


def share_rare_rows(
    plan: SizingPlan, kept: Mapping[str, int], hash_ratio: float = 0.0
) -> SizingPlan:
    """The plan with a tail of shared rows where a field keeps fewer rows than it has ids."""
    fields, reasons = dict(plan.fields), dict(plan.reasons)
    for name, rows in kept.items():
        fields[name] = cut_tail(plan.fields[name], rows, hash_ratio)
        if fields[name] != plan.fields[name]:
            tail = fields[name][-1]
            note = shared_note(tail.num_ids, tail.num_embeddings)
            reasons[name] = "; ".join(filter(None, (reasons.get(name, ""), note)))
    return replace(plan, fields=fields, reasons=reasons)


def shared_note(num_ids: int, rows: int, lookup_ratio: float = 0.0) -> str:
    """What a tail is, in words; its share of the lookups where that is known."""
    lookups = f" ({lookup_ratio:.1%} of lookups)" if lookup_ratio else ""
    return f"{num_ids:,} rare ids{lookups} share {rows:,} row{'s' * (rows > 1)}"


def named_with_tails(
    plan: SizingPlan, kept: Mapping[str, int], by_table: Mapping[str, Entry]
) -> dict[str, Entry]:
    """What is known of a plan's tables, by the names they have once tails are cut off."""
    renamed = {
        name: f"{name}/0"
        for name, blocks in plan.fields.items()
        if len(blocks) == 1 and len(cut_tail(blocks, kept.get(name, blocks[0].num_ids))) > 1
    }
    return {renamed.get(name, name): entry for name, entry in by_table.items()}
