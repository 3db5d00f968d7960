"""The best plan that a number of bytes allows.

A scheme says what it would like; here it is decided what it gets. Three ways:

``exact``  the plan of the highest value within the budget, proved best (`models.sizing.knapsack`);
``scale``  one factor scales all widths, to the widest plan that fits (the paper's path);
``fill``   the same, and what rounding leaves over then widens single tables.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.sizing.budget import BYTE_COST, plan_bytes
from models.sizing.exact import Best, Problem, Values, best_choice
from models.sizing.rounding import Rounding, round_up
from models.sizing.rows import RowChoice, shared_note
from models.sizing.serving import Serving
from models.sizing.solver import Cost, Tables, fill, trace, widths
from models.sizing.units import joined, units_of
from models.tables import Block, PlanError, SizingPlan, SparseOptimizer

logger = logging.getLogger(__name__)

Solver = Literal["exact", "fill", "scale"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A plan within its budget, and how far it can be from the best one."""

    plan: SizingPlan
    training_bytes: int
    gap_ratio: float = 0.0
    """By which share of its value another plan might be better; 0 where it is proved best."""


def best_fit(
    plan: SizingPlan,
    budget_bytes: int,
    *,
    grid: Sequence[int],
    optimizer: SparseOptimizer = "rowwise_adagrad",
    serving: Serving | None = None,
    out_dim: int | None = None,
    values: Values | None = None,
    rows: Mapping[str, Sequence[RowChoice]] | None = None,
    solver: Solver = "exact",
    rounding: Rounding = "mult4",
    capped: bool = False,
) -> Fit:
    """Give every table the width, and where it has a choice the rows, that a budget pays for.

    Without ``values`` a width ``w`` of a table of ``n`` rows that asks for ``a`` is worth
    ``n * a * log(w)``. Maximising the sum under ``sum(n * w) <= B`` sets ``n * a / w`` to one price
    times ``n`` for every table, so that ``w`` is proportional to ``a``: what a scheme asks for is
    the shape of the best plan, whatever the budget. Real costs, with projections, optimizer state
    by row and steps between widths, then move single tables where that pays.

    Tables that ask for the same width get the same one, so a uniform shape stays uniform, unless
    ``values`` or ``rows`` say what each of them is worth.

    Args:
        plan: What a scheme asks for; only the ratios of its asked widths count. A block of hashed
            ids behind another block of its field is that block's tail and follows its width, or
            is as wide as the model's fields where that is cheaper.
        budget_bytes: Bytes that must not be exceeded: of training, or of serving.
        grid: Widths that a table may have, ascending.
        optimizer: Optimizer whose state is counted.
        serving: How tables are exported, where the budget is for serving; None for training.
        out_dim: Width after projection; the widest table's by default.
        values: What widths are worth, instead of the plan's shape.
        rows: By table name, how its tail may be cut off; other tables keep all rows.
        solver: Which way.
        rounding: How ``scale`` and ``fill`` round.
        capped: Whether ``exact`` gives no table more than it asks for, so that what a large table
            leaves over does not make a tiny one the widest of all.

    Raises:
        PlanError: If not even the smallest plan fits; it says how many bytes would do.
        ValueError: If ``out_dim`` is narrower than every allowed width, or the solver cannot do
            what is asked.
    """
    allowed = _allowed(plan, grid, out_dim, values, capped=capped)
    cost: Cost = BYTE_COST[optimizer] if serving is None else serving.cost
    if solver == "exact":
        problem = Problem(
            plan=plan,
            units=units_of(plan, rows or {}),
            widths=allowed,
            cost=cost,
            out_dim=out_dim,
            given=values,
            capped=capped,
        )
        return _exact(problem, budget_bytes, optimizer)
    _check_scalable(plan, solver, has_values=values is not None, has_rows=bool(rows))
    blocks = [block for blocks in plan.fields.values() for block in blocks]
    tables = Tables.of(
        [block.num_embeddings for block in blocks],
        [block.asked_dim for block in blocks],
        grid=allowed,
        cost=cost if plan.join == "project" else replace(cost, per_projection_weight=0),
        rounding=rounding,
        out_dim=out_dim,
    )
    scaled = _scaled(plan, budget_bytes, tables, filled=solver == "fill")
    return Fit(plan=scaled, training_bytes=plan_bytes(scaled, optimizer).training_bytes)


def _allowed(
    plan: SizingPlan,
    grid: Sequence[int],
    out_dim: int | None,
    values: Values | None,
    *,
    capped: bool,
) -> list[int]:
    """Widths of the grid that some table can have."""
    allowed = [width for width in grid if out_dim is None or width <= out_dim]
    if not allowed:
        raise ValueError(
            f"out_dim={out_dim} is narrower than the narrowest table, {grid[0]}; "
            f"raise out_dim to {grid[0]} or lower the scheme's min_dim"
        )
    if values is not None:  # no table can be wider than what its values reach
        known = {width for of_table in values.values() for width in of_table}
        return [width for width in allowed if width in known] or allowed[:1]
    if capped:
        widest = round_up(max(b.asked_dim for blocks in plan.fields.values() for b in blocks))
        return [width for width in allowed if width <= widest] or allowed[:1]
    return allowed


def _exact(problem: Problem, budget_bytes: int, optimizer: SparseOptimizer) -> Fit:
    best = best_choice(problem, budget_bytes)
    if isinstance(best, int):
        keeps = all(len(unit.choices) == 1 for unit in problem.units)
        raise PlanError(_infeasible(budget_bytes, best, keeps_rows=keeps), needed_bytes=best)
    plan = _with_choice(problem, best)
    if best.gap_ratio:
        logger.warning(
            "the plan is within %.2g of the best value, not proved best: too many ways are alike",
            best.gap_ratio,
        )
    used = plan_bytes(plan, optimizer).training_bytes
    return Fit(plan=plan, training_bytes=used, gap_ratio=best.gap_ratio)


def _with_choice(problem: Problem, best: Best) -> SizingPlan:
    """The plan with what its units got."""
    plan, units = problem.plan, problem.units
    widest = dict.fromkeys(plan.fields, 0)
    for unit, width in zip(units, best.widths, strict=True):
        widest[unit.field] = max(widest[unit.field], width)
    out_dim = problem.out_dim or max(widest.values())
    fields: dict[str, list[Block]] = {name: [] for name in plan.fields}
    rare: dict[str, str] = {}
    for unit, width, way in zip(units, best.widths, best.ways, strict=True):
        target = widest[unit.field] if problem.is_concatenated else out_dim
        blocks = problem.blocks(unit, width, unit.choices[way], target)
        fields[unit.field].extend(blocks)
        if len(blocks) > 1 and len(unit.choices) > 1:
            tail, ratio = blocks[-1], unit.choices[way].lookup_ratio
            rare[unit.field] = shared_note(tail.num_ids, tail.num_embeddings, 1 - ratio)
    reasons = {
        name: joined(
            plan.reasons.get(name, ""),
            _place([block.embedding_dim for block in fields[name]], problem.widths, "fitted"),
            rare.get(name, ""),
        )
        for name in fields
    }
    shaped = {name: tuple(blocks) for name, blocks in fields.items()}
    return replace(plan, fields=shaped, out_dim=out_dim, reasons=reasons)


def _check_scalable(plan: SizingPlan, solver: Solver, *, has_values: bool, has_rows: bool) -> None:
    """Refuse what one factor over all widths cannot express."""
    if has_values or has_rows:
        what = "gives every width a value" if has_values else "cuts rows as the budget wants"
        raise ValueError(
            f"solver={solver!r} knows one factor over all widths, and this request {what}; "
            f"use --solver exact"
        )
    if plan.join == "concatenate" and any(len(blocks) > 1 for blocks in plan.fields.values()):
        raise ValueError(
            f"solver={solver!r} does not know projections within a field, which blocks need where "
            f"the model concatenates; use --solver exact"
        )


def _scaled(plan: SizingPlan, budget_bytes: int, tables: Tables, *, filled: bool) -> SizingPlan:
    path = trace(tables)
    state = path.last_within(budget_bytes)
    if state is None:
        needed = path.cheapest()
        message = _infeasible(budget_bytes, needed, keeps_rows=True)
        raise PlanError(message, needed_bytes=needed)
    scaled = widths(tables, path.levels(state))
    final = fill(path, state, budget_bytes) if filled else scaled
    fields, reasons, position = {}, {}, 0
    for name, blocks in plan.fields.items():
        here = slice(position, position + len(blocks))
        position += len(blocks)
        fields[name] = tuple(
            replace(block, embedding_dim=width)
            for block, width in zip(blocks, final[here], strict=True)
        )
        how = "scaled, then widened" if final[here] != scaled[here] else "scaled"
        reasons[name] = joined(plan.reasons.get(name, ""), _place(final[here], tables.grid, how))
    return replace(plan, fields=fields, out_dim=tables.out_dim or max(final), reasons=reasons)


def _place(dims: Sequence[int], grid: Sequence[int], between: str) -> str:
    """Where a field's widths are among those that are allowed."""
    if min(dims) == grid[-1]:
        return "widest"
    return "narrowest" if max(dims) == grid[0] else between


def _infeasible(budget_bytes: int, needed_bytes: int, *, keeps_rows: bool) -> str:
    rows = "let rare ids share rows (--rows auto), " if keeps_rows else ""
    return (
        f"budget of {budget_bytes:,} bytes is too small: the smallest plan of this scheme takes "
        f"{needed_bytes:,} bytes; give --budget {needed_bytes}, {rows}or leave fields out"
    )
