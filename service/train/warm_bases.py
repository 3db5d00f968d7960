"""How tables start from a run's vectors: by strongest directions, or by columns that are named."""

# Shapes:  D width of the warm-up's vectors, T width behind the projection, k of a table

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.sizing.spectral import Floats, directions
from models.tables import SizingPlan, Table

Rotations = Mapping[str, Floats | None]
"""Per field ``(D, T)``, what its vectors are multiplied with; None where they stay as they are."""


@dataclass(frozen=True, slots=True)
class Basis:
    """How one table starts."""

    down: Floats
    """``(D, k)``: its rows are the warm-up's vectors times this."""
    up: Floats | None
    """``(k, T)``: its projection; None for a table that needs none."""


def strongest(moment: Floats, rotation: Floats | None, width: int) -> Basis:
    """Basis of a table of a width, from the second moment of its ids' vectors."""
    turned = moment if rotation is None else rotation.T @ moment @ rotation
    turn = np.eye(len(moment)) if rotation is None else rotation
    if width == len(turned):
        return Basis(turn, None)
    down, up = directions(turned)
    return Basis(turn @ down[:, :width], up[:width])


def first_axes(rotation: Floats | None, width: int) -> Basis:
    """Basis of a table that is padded: the strongest axes of the rotation that all share."""
    assert rotation is not None
    return Basis(rotation[:, :width], None)


def beside(fixed: int, turn: Floats) -> Floats:
    """A rotation of the axes behind the first ``fixed`` ones, which stay."""
    whole = np.zeros((fixed + turn.shape[0], fixed + turn.shape[1]))
    whole[:fixed, :fixed] = np.eye(fixed)
    whole[fixed:, fixed:] = turn
    return whole


def selected(
    columns: Mapping[str, Sequence[int]],
    plan: SizingPlan,
    widths: Mapping[str, int],
    lifts: Mapping[int, Floats] | None = None,
) -> tuple[dict[str, Basis], dict[str, Floats | None]]:
    """Bases that take columns as they are, and put them back where they were.

    The model then says what the wide one would with all other columns masked. Fields of the warm-up
    that the plan has not are masked as a whole.

    Args:
        columns: By field, which columns it keeps.
        plan: The new tables.
        widths: ``D`` of the warm-up's fields, in order.
        lifts: By number of columns ``(k, D)``, what the warm-up's network has seen of them; by
            default each where it was.

    Raises:
        ValueError: If columns are not what plan and warm-up have, or fields are padded.
    """
    tables = {table.field: table for table in plan.tables()}
    if plan.join == "pad":
        raise ValueError(
            "warm_columns differ by field, and this network pads its fields, whose columns belong "
            "together; give --network.join project"
        )
    if list(columns) != list(tables) or [name for name in widths if name in tables] != list(tables):
        raise ValueError(
            f"warm_columns name the fields {list(columns)}, the plan has {list(tables)} and the "
            f"warm-up {list(widths)}; name those of the plan, in the warm-up's order"
        )
    rotations: dict[str, Floats | None] = {}
    bases = {}
    for name, width in widths.items():
        rotations[name] = np.zeros((width, 0))
        if (table := tables.get(name)) is not None:
            _check(table, columns[name], width, plan)
            kept = np.eye(width)[:, list(columns[name])]  # (D, k)
            seen = kept.T if lifts is None else lifts[len(kept.T)]  # (k, D)
            # A network that takes fields as wide as they are sees the columns of narrow tables.
            is_seen = plan.join == "project" or len(kept.T) == width
            rotations[name] = None if is_seen else np.asarray(np.linalg.pinv(seen), np.float64)
            is_projected = plan.projected_dim(table) > 0
            down = kept @ seen if is_seen and not is_projected else kept
            bases[table.name] = Basis(down, seen if is_projected else None)
    return bases, rotations


def _check(table: Table, columns: Sequence[int], width: int, plan: SizingPlan) -> None:
    is_whole = len(plan.fields[table.field]) == 1
    is_rising = list(columns) == sorted({*columns}) and set(columns) <= {*range(width)}
    if not is_whole or not is_rising or len(columns) != table.embedding_dim:
        raise ValueError(
            f"warm_columns of field {table.field!r} are {list(columns)}, expected as many as the "
            f"one table of the field is wide, {table.embedding_dim}, rising and below {width}"
        )
    if plan.join == "project" and plan.out_dim != width:
        raise ValueError(
            f"warm_columns keep columns where they were, {width} of them, and the plan is "
            f"{plan.out_dim} wide behind its projections; size with --out-dim {width}"
        )
