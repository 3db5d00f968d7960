"""What a sizing plan costs in bytes, and the best plan that a number of bytes allows.

Bytes of training are the tables' weights, the fused optimizer's state, one bias-free projection
``embedding_dim x out_dim`` for every table narrower than ``out_dim``, and two moments of Adam for
it. Gradients and activations are not counted: they depend on the batch, not on the plan.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from models.sizing.solver import Cost, Tables, fill, trace, widths
from models.tables import (
    FLOAT_BYTES,
    FieldStats,
    PlanError,
    SizingPlan,
    SparseOptimizer,
    Table,
)

PROJECTION_BYTES: Final = FLOAT_BYTES * 3
"""Bytes a projection's element takes in training: the weight and Adam's two moments."""

BYTE_COST: Final[Mapping[SparseOptimizer, Cost]] = MappingProxyType(
    {
        "rowwise_adagrad": Cost(
            per_weight=FLOAT_BYTES, per_row=FLOAT_BYTES, per_projection_weight=PROJECTION_BYTES
        ),
        "sgd": Cost(per_weight=FLOAT_BYTES, per_projection_weight=PROJECTION_BYTES),
        "adagrad": Cost(per_weight=2 * FLOAT_BYTES, per_projection_weight=PROJECTION_BYTES),
        "adam": Cost(per_weight=3 * FLOAT_BYTES, per_projection_weight=PROJECTION_BYTES),
        "amsgrad": Cost(per_weight=4 * FLOAT_BYTES, per_projection_weight=PROJECTION_BYTES),
    }
)
"""Bytes of a table's element and row by fused optimizer, its state included."""

_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {"": 1, "b": 1}
    | {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)}
    | {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TableBytes:
    """Bytes that one table takes while it is trained."""

    weights: int
    optimizer_state: int
    projection: int
    """Weights of its projection; 0 where the table is ``out_dim`` wide."""
    projection_state: int

    @property
    def total(self) -> int:
        """All four together."""
        return self.weights + self.optimizer_state + self.projection + self.projection_state


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanBytes:
    """The four figures of a plan, and the bytes of each of its tables."""

    embedding_params: int
    """``EP``, the sum of rows times width."""
    projection_params: int
    training_bytes: int
    """Weights, optimizer state, projections and their Adam state."""
    serving_bytes: int
    """Weights and projections in fp32."""
    tables: Mapping[str, TableBytes]
    """By table name."""


def table_bytes(table: Table, out_dim: int, optimizer: SparseOptimizer) -> TableBytes:
    """Bytes that a table takes under a fused optimizer, in a model of width ``out_dim``."""
    cost = BYTE_COST[optimizer]
    params = table.num_embeddings * table.embedding_dim
    projection = 0 if table.embedding_dim == out_dim else table.embedding_dim * out_dim
    return TableBytes(
        weights=FLOAT_BYTES * params,
        optimizer_state=(cost.per_weight - FLOAT_BYTES) * params
        + cost.per_row * table.num_embeddings,
        projection=FLOAT_BYTES * projection,
        projection_state=(PROJECTION_BYTES - FLOAT_BYTES) * projection,
    )


def plan_bytes(plan: SizingPlan, optimizer: SparseOptimizer = "rowwise_adagrad") -> PlanBytes:
    """Bytes that training and serving a plan take, table by table."""
    tables = {table.name: table_bytes(table, plan.out_dim, optimizer) for table in plan.tables()}
    weights = sum(table.weights for table in tables.values())
    projections = sum(table.projection for table in tables.values())
    return PlanBytes(
        embedding_params=weights // FLOAT_BYTES,
        projection_params=projections // FLOAT_BYTES,
        training_bytes=sum(table.total for table in tables.values()),
        serving_bytes=weights + projections,
        tables=tables,
    )


def uniform_bytes(
    fields: Iterable[FieldStats], dim: int, optimizer: SparseOptimizer = "rowwise_adagrad"
) -> int:
    """Bytes that training takes when every field is ``dim`` wide."""
    cost = BYTE_COST[optimizer]
    rows = sum(stats.num_embeddings for stats in fields)
    return rows * (dim * cost.per_weight + cost.per_row)


def parse_budget(text: str, base_bytes: int) -> int:
    """Bytes that a budget names: ``512MiB``, ``1.5GB``, ``1000000``, or ``4x``.

    Args:
        text: Bytes with or without a unit, or how many times smaller than ``base_bytes``.
        base_bytes: Training bytes of the uniform plan that ``Nx`` is measured against.

    Raises:
        ValueError: If the text is none of these, or is not above zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(x|[kmgt]?i?b|)", text.strip().lower())
    amount = Fraction(match[1]) if match else Fraction(0)
    if not match or match[2] == "ib" or amount <= 0:
        raise ValueError(
            f"budget {text!r} is not a number of bytes above zero; write bytes with or without a "
            f"unit (512MiB, 1.5GB, 1000000), or 4x for a quarter of the uniform model's bytes"
        )
    return int(base_bytes / amount) if match[2] == "x" else int(amount * _UNITS[match[2]])


def fit(
    plan: SizingPlan,
    budget_bytes: int,
    *,
    grid: Sequence[int],
    optimizer: SparseOptimizer = "rowwise_adagrad",
    out_dim: int | None = None,
) -> SizingPlan:
    """Scale the widths that a plan asks for to the most that a budget pays for.

    The scale is found exactly; what rounding leaves over then widens single tables. The result
    never costs more than the budget, tables that ask for less never end up wider, and a larger
    budget never ends with fewer embedding parameters.

    Args:
        plan: What a scheme asks for; only the ratios of its asked widths count.
        budget_bytes: Bytes of training that must not be exceeded.
        grid: Widths that a table may have, ascending.
        optimizer: Fused optimizer whose state is counted.
        out_dim: Width after projection; the widest table's by default.

    Raises:
        PlanError: If not even the smallest plan fits; it says how many bytes would do.
        ValueError: If ``out_dim`` is narrower than every allowed width.
    """
    allowed = [width for width in grid if out_dim is None or width <= out_dim]
    if not allowed:
        raise ValueError(
            f"out_dim={out_dim} is narrower than the narrowest table, {grid[0]}; "
            f"raise out_dim to {grid[0]} or lower the scheme's min_dim"
        )
    blocks = [block for blocks in plan.fields.values() for block in blocks]
    path = trace(
        Tables.of(
            [block.num_embeddings for block in blocks],
            [block.asked_dim for block in blocks],
            grid=allowed,
            cost=BYTE_COST[optimizer],
            out_dim=out_dim,
        )
    )
    state = path.last_within(budget_bytes)
    if state is None:
        raise PlanError(_infeasible(budget_bytes, path.cheapest()), needed_bytes=path.cheapest())
    filled = fill(path, state, budget_bytes)
    scaled = widths(path.tables, path.levels(state))
    return _with_widths(plan, scaled, filled, out_dim or max(filled), allowed)


def _infeasible(budget_bytes: int, needed_bytes: int) -> str:
    return (
        f"budget of {budget_bytes} bytes is too small: the smallest plan of this scheme trains in "
        f"{needed_bytes} bytes; give --budget {needed_bytes}, raise the threshold of `mixdim "
        f"prepare --min-count`, or leave fields out"
    )


def _with_widths(
    plan: SizingPlan,
    scaled: Sequence[int],
    filled: Sequence[int],
    out_dim: int,
    allowed: Sequence[int],
) -> SizingPlan:
    """The plan with new widths, each field's reason saying what the budget did to it."""
    fields, reasons, position = {}, {}, 0
    for name, blocks in plan.fields.items():
        here = slice(position, position + len(blocks))
        position += len(blocks)
        fields[name] = tuple(
            replace(block, embedding_dim=width)
            for block, width in zip(blocks, filled[here], strict=True)
        )
        notes = [plan.reasons.get(name, ""), "scaled"]
        if min(filled[here]) == allowed[-1]:
            notes[1] = "widest"
        elif max(filled[here]) == allowed[0]:
            notes[1] = "narrowest"
        elif filled[here] != scaled[here]:
            notes[1] = "scaled, then widened"
        reasons[name] = "; ".join(filter(None, notes))
    return replace(plan, fields=fields, out_dim=out_dim, reasons=reasons)
