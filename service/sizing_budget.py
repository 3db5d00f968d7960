"""What a request's budget makes of the plan that its scheme asks for."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from models.sizing import (
    Fit,
    Serving,
    Values,
    best_fit,
    parse_budget,
    plan_bytes,
    uniform_bytes,
)
from models.sizing.base import MAX_WIDTH, FittedScheme
from models.sizing.blocks import cut
from models.sizing.rounding import width_grid
from models.sizing.rows import RowChoice, row_choices
from models.tables import FieldStats, PlanError, SizingPlan

if TYPE_CHECKING:
    from service.sizing_request import SizingRequest

logger = logging.getLogger(__name__)


def fit_budget(
    asked: SizingPlan,
    budget_bytes: int,
    fields: Sequence[FieldStats],
    request: "SizingRequest",
    counts: Mapping[str, NDArray[Any]],
    values: Values | None,
) -> Fit:
    """The best plan of what a scheme asks for within a number of bytes.

    Raises:
        PlanError: If nothing fits; an ``Nx`` budget is told which ``N`` would.
    """
    scheme = request.scheme
    own, base = counted_bytes(asked, request), base_bytes(fields, request)
    is_of_training = request.budget_for == "training"  # one of serving is tried in all dtypes
    if own > base and is_of_training and not isinstance(scheme, FittedScheme):
        logger.info(
            "the widths of scheme %s alone take %.3g times the bytes of uniform %d; under the "
            "budget only their shape counts",
            scheme.kind,
            own / base,
            request.base_dim,
        )
    try:
        if isinstance(scheme, FittedScheme):
            return _fit_itself(scheme, budget_bytes, fields, request)
        return best_fit(
            asked,
            budget_bytes,
            grid=request.serving.grid(scheme.grid),
            optimizer=request.optimizer,
            serving=request.serving if request.budget_for == "serving" else None,
            out_dim=request.out_dim,
            values=values,
            rows=_row_choices(asked, fields, request, counts) if request.rows == "auto" else None,
            solver=request.solver,
            rounding=getattr(scheme, "rounding", "mult4"),
            capped=own > budget_bytes,
        )
    except PlanError as error:
        raise _explained(error, request, fields) from error


def _fit_itself(
    scheme: FittedScheme, budget_bytes: int, fields: Sequence[FieldStats], request: "SizingRequest"
) -> Fit:
    def plan_of(scheme: FittedScheme) -> SizingPlan:
        return at_out_dim(replace(scheme(fields), join=request.join), request)

    found = scheme.within(budget_bytes, lambda scheme: counted_bytes(plan_of(scheme), request))
    plan = plan_of(found)
    used = plan_bytes(plan, request.optimizer).training_bytes
    return Fit(plan=plan, training_bytes=used)


def at_out_dim(plan: SizingPlan, request: "SizingRequest") -> SizingPlan:
    """The plan with ``out_dim`` fixed: wider tables are cut back to it."""
    out_dim, grid = request.out_dim, request.scheme.grid
    if out_dim is None or out_dim == plan.out_dim:
        return plan
    if out_dim < grid[0]:
        raise ValueError(f"out_dim={out_dim}, expected at least {grid[0]}; try {grid[0]}")
    widest = max(width for width in grid if width <= out_dim)
    fields = {
        name: tuple(replace(b, embedding_dim=min(b.embedding_dim, widest)) for b in blocks)
        for name, blocks in plan.fields.items()
    }
    return replace(plan, fields=fields, out_dim=out_dim)


def _row_choices(
    plan: SizingPlan,
    fields: Sequence[FieldStats],
    request: "SizingRequest",
    counts: Mapping[str, NDArray[Any]],
) -> dict[str, list[RowChoice]]:
    """Ways to cut the tail off a field's last table, by table name; not off what a file has cut."""
    last = {table.field: table for table in plan.tables()}
    runs = {
        stats.name: cut(stats, counts[stats.name], request.blocks)[-1]
        if stats.name in counts
        else stats
        for stats in fields
    }
    return {
        last[name].name: row_choices(run, request.hash_tail)
        for name, run in runs.items()
        if run.num_embeddings == last[name].num_embeddings
        and (not request.row_fields or name in request.row_fields)
    }


def counted_bytes(plan: SizingPlan, request: "SizingRequest") -> int:
    """Bytes of a plan that a request's budget bounds."""
    cost = plan_bytes(plan, request.optimizer, request.serving)
    return cost.serving_bytes if request.budget_for == "serving" else cost.training_bytes


def base_bytes(
    fields: Sequence[FieldStats], request: "SizingRequest", dim: int | None = None
) -> int:
    """Bytes of the uniform model that a request is measured against; served ones in fp32."""
    fp32 = Serving() if request.budget_for == "serving" else None
    return uniform_bytes(fields, dim or request.base_dim, request.optimizer, fp32)


def _explained(
    error: PlanError, request: "SizingRequest", fields: Sequence[FieldStats]
) -> PlanError:
    """Say in the words of an ``Nx`` budget what would be possible."""
    if request.budget is None or not request.budget.strip().lower().endswith("x"):
        return error
    needed = error.needed_bytes
    base = {
        dim: base_bytes(fields, request, dim)
        for dim in (request.base_dim, *width_grid("mult4", 1, MAX_WIDTH))
    }
    most = base[request.base_dim] * 100 // needed / 100
    enough = [dim for dim, size in base.items() if parse_budget(request.budget, size) >= needed]
    hint = f", and {request.budget} from --base-dim {min(enough)} on" if enough else ""
    how = f"with {request.optimizer}"
    if request.budget_for == "serving":
        how = f"served in {request.dtype}"
    return PlanError(
        f"{error}; {how} at most {most}x smaller than uniform {request.base_dim} is possible{hint}",
        needed_bytes=needed,
    )
