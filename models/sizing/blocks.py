"""Several widths inside one field: runs of rows that are read equally often in total."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from models.sizing.base import SizingScheme
from models.tables import FieldStats, SizingPlan, check_fields


def equipartition(counts: ArrayLike, num_blocks: int) -> list[int]:
    """Cut rows into runs that share the lookups equally.

    Args:
        counts: Lookups of every row, most frequent first.
        num_blocks: How many runs; each has at least one row.

    Returns:
        First row of every run, and the number of rows at the end.

    Raises:
        ValueError: If the counts are not in falling order or there are fewer rows than runs.

    Source:
        Ginart et al., arXiv:1909.11810, Alg. 2; rows that are never read are in the last run.
    """
    frequency = np.asarray(counts)
    num_rows = len(frequency)
    if not 1 <= num_blocks <= num_rows:
        raise ValueError(
            f"num_blocks={num_blocks}, expected 1 to {num_rows}, the number of rows; lower it"
        )
    if rising := np.flatnonzero(frequency[1:] > frequency[:-1]).tolist():
        raise ValueError(
            f"row {rising[0] + 1} is read more often than row {rising[0]}; "
            f"sort the rows by frequency first"
        )
    running = np.cumsum(frequency)
    offsets = [0]
    for block in range(1, num_blocks):
        reached = int(np.searchsorted(running * num_blocks, block * running[-1])) + 1
        room = num_rows - (num_blocks - block)  # one row is left for every later run
        offsets.append(min(max(reached, offsets[-1] + 1), room))
    return [*offsets, num_rows]


def cut(stats: FieldStats, counts: ArrayLike, num_blocks: int) -> list[FieldStats]:
    """Describe a field's runs as if each were a field; fewer where it has fewer rows.

    Raises:
        ValueError: If the counts are not those of the field's rows.
    """
    frequency = np.asarray(counts)
    if len(frequency) != stats.num_embeddings:
        raise ValueError(
            f"field {stats.name!r}: {len(frequency)} counts for {stats.num_embeddings} rows; "
            f"prepare the dataset again"
        )
    offsets = equipartition(frequency, min(num_blocks, stats.num_embeddings))
    return [
        replace(
            stats,
            name=stats.name if len(offsets) == 2 else f"{stats.name}/{index}",  # as tables are
            num_embeddings=end - start,
            num_lookups=int(frequency[start:end].sum()),
            frequency_curve=tuple(
                (rank - start, lookups - int(frequency[:start].sum()))
                for rank, lookups in stats.frequency_curve
                if start < rank <= end
            ),
        )
        for index, (start, end) in enumerate(pairwise(offsets))
    ]


def size_in_blocks(
    scheme: SizingScheme,
    fields: Sequence[FieldStats],
    counts: Mapping[str, ArrayLike],
    num_blocks: int,
) -> SizingPlan:
    """Apply a scheme to the runs of some fields and to the other fields as they are.

    Args:
        scheme: Any scheme; the popularity rule is the one that the paper uses.
        fields: All fields.
        counts: Lookups of every row, of the fields that are cut.
        num_blocks: Runs of each of these.
    """
    check_fields(fields)
    runs = {
        stats.name: cut(stats, counts[stats.name], num_blocks) if stats.name in counts else [stats]
        for stats in fields
    }
    flat = scheme([run for parts in runs.values() for run in parts])
    blocks = {
        name: tuple(block for run in parts for block in flat.fields[run.name])
        for name, parts in runs.items()
    }
    reasons = {
        name: f"{len(blocks[name]):,} runs of equal mass" if name in counts else flat.reasons[name]
        for name in runs
    }
    return replace(flat, fields=blocks, reasons=reasons)
