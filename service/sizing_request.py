"""From a dataset's statistics to ``sizing.json``: the function behind ``mixdim size``."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.sizing import (
    SizingScheme,
    Spectral,
    Uniform,
    equipartition,
    fit,
    parse_budget,
    plan_bytes,
    size_in_blocks,
    uniform_bytes,
)
from models.sizing.base import MAX_WIDTH, ValuedScheme
from models.sizing.rounding import width_grid
from models.tables import WIDTH_STEP, FieldStats, PlanError, SizingPlan, SparseOptimizer
from service.data.dataset import DATASET_FILE, read_dataset_info
from service.sizing import DEFAULT_BASE_DIM, FORMAT_VERSION, DatasetReference, SizingFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SizingRequest:
    """What to size, how, and how large it may be."""

    scheme: SizingScheme = field(default_factory=Uniform)
    """Which widths are asked for."""

    budget: str | None = None
    """Bytes of training that must not be exceeded, or ``Nx``; None: the scheme's widths."""

    optimizer: SparseOptimizer = "rowwise_adagrad"
    """Fused optimizer of the tables; its state counts."""

    base_dim: int = DEFAULT_BASE_DIM
    """Width of the uniform model that ``Nx`` is measured against."""

    out_dim: int | None = None
    """Width after projection; the widest table's by default."""

    fields: tuple[str, ...] = ()
    """Fields to size, in the order of the dataset; all where empty."""

    blocks: int = 1
    """Runs of equal mass that a field is cut into, each with a width of its own."""

    block_fields: tuple[str, ...] = ()
    """Fields that are cut into runs; all sized fields where empty."""

    def __post_init__(self) -> None:
        for name in ("base_dim", "out_dim"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value}, expected at least 1; try {DEFAULT_BASE_DIM}")
        if self.blocks < 1:
            raise ValueError(f"blocks={self.blocks}, expected at least 1; 1 is an ordinary table")


def size_dataset(folder: Path, request: SizingRequest) -> SizingFile:
    """Size the tables of a dataset; the function behind ``mixdim size``.

    Raises:
        FileNotFoundError: If the folder is not a finished dataset.
        ValueError: If a field, a budget or a scheme's parameter makes no sense.
        PlanError: If the budget is too small for any plan.
    """
    info = read_dataset_info(folder)
    fields = _chosen(info.field_stats, request.fields, "--fields")
    cut = _chosen(fields, request.block_fields, "--block-fields") if request.blocks > 1 else []
    counts = {stats.name: _lookups_per_id(folder, stats.name) for stats in cut}
    if isinstance(request.scheme, Spectral) and not request.scheme.spectra:
        request = replace(request, scheme=_measured(request, folder, fields, counts))
    plan, budget_bytes = size_fields(fields, request, counts)
    reference = hashlib.sha256((folder / DATASET_FILE).read_bytes()).hexdigest()
    return SizingFile(
        format_version=FORMAT_VERSION,
        scheme=plan.scheme,
        optimizer=request.optimizer,
        budget=request.budget,
        budget_bytes=budget_bytes,
        base_dim=request.base_dim,
        dataset=DatasetReference(source=info.source, sha256=reference),
        out_dim=plan.out_dim,
        fields=plan.fields,
        reasons=plan.reasons,
        totals=_totals(plan, fields, request, budget_bytes),
    )


def _measured(
    request: SizingRequest,
    folder: Path,
    fields: Sequence[FieldStats],
    counts: Mapping[str, NDArray[Any]],
) -> Spectral:
    """The spectral scheme of a request with the spectra of its warm-up run."""
    from service.spectral import measured  # torch, which other schemes need not wait for

    assert isinstance(request.scheme, Spectral)
    offsets = {
        stats.name: equipartition(counts[stats.name], min(request.blocks, stats.num_embeddings))
        if stats.name in counts
        else [0, stats.num_embeddings]
        for stats in fields
    }
    return measured(request.scheme, folder, offsets)


def size_fields(
    fields: Sequence[FieldStats],
    request: SizingRequest,
    counts: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[SizingPlan, int | None]:
    """Plan for fields and the bytes of its budget; ``counts`` are of fields to cut into runs."""
    scheme = request.scheme
    plan = size_in_blocks(scheme, fields, counts, request.blocks) if counts else scheme(fields)
    base_bytes = uniform_bytes(fields, request.base_dim, request.optimizer)
    if request.budget is None:
        return _at_out_dim(plan, request.out_dim), None
    budget_bytes = parse_budget(request.budget, base_bytes)
    try:
        fitted = fit(
            plan,
            budget_bytes,
            grid=scheme.grid,
            optimizer=request.optimizer,
            out_dim=request.out_dim,
            values=scheme.values(plan) if isinstance(scheme, ValuedScheme) else None,
        )
    except PlanError as error:
        raise _explained(error, request, fields) from error
    return fitted, budget_bytes


def _explained(error: PlanError, request: SizingRequest, fields: Sequence[FieldStats]) -> PlanError:
    """Say in the words of an ``Nx`` budget what would be possible."""
    if request.budget is None or not request.budget.strip().lower().endswith("x"):
        return error
    needed = error.needed_bytes
    base = {
        dim: uniform_bytes(fields, dim, request.optimizer)
        for dim in (request.base_dim, *width_grid("mult4", 1, MAX_WIDTH))
    }
    most = base[request.base_dim] * 100 // needed / 100
    enough = [dim for dim, size in base.items() if parse_budget(request.budget, size) >= needed]
    hint = f", and {request.budget} from --base-dim {min(enough)} on" if enough else ""
    return PlanError(
        f"{error}; with {request.optimizer} at most {most}x smaller than uniform "
        f"{request.base_dim} is possible{hint}",
        needed_bytes=needed,
    )


def _at_out_dim(plan: SizingPlan, out_dim: int | None) -> SizingPlan:
    """The plan with ``out_dim`` fixed: wider tables are cut back to it."""
    if out_dim is None or out_dim == plan.out_dim:
        return plan
    widest = out_dim // WIDTH_STEP * WIDTH_STEP
    if not widest:
        raise ValueError(f"out_dim={out_dim}, expected at least {WIDTH_STEP}; try {WIDTH_STEP}")
    fields = {
        name: tuple(replace(b, embedding_dim=min(b.embedding_dim, widest)) for b in blocks)
        for name, blocks in plan.fields.items()
    }
    return replace(plan, fields=fields, out_dim=out_dim)


def _chosen(fields: Sequence[FieldStats], names: Sequence[str], flag: str) -> list[FieldStats]:
    known = [stats.name for stats in fields]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{flag}: {unknown} are not fields; fields: {', '.join(known)}")
    return [stats for stats in fields if not names or stats.name in names]


def _lookups_per_id(folder: Path, name: str) -> NDArray[Any]:
    path = folder / "vocab" / f"{name}.parquet"
    counts: NDArray[Any] = pq.read_table(path, columns=["count"])["count"].to_numpy()
    return counts


def _totals(
    plan: SizingPlan,
    fields: Sequence[FieldStats],
    request: SizingRequest,
    budget_bytes: int | None,
) -> dict[str, float]:
    """The four figures of a plan, and how they compare."""
    cost = plan_bytes(plan, request.optimizer)
    base_bytes = uniform_bytes(fields, request.base_dim, request.optimizer)
    totals: dict[str, float] = {
        "embedding_params": cost.embedding_params,
        "projection_params": cost.projection_params,
        "training_bytes": cost.training_bytes,
        "serving_bytes": cost.serving_bytes,
        "uniform_training_bytes": base_bytes,
        "compression_ratio": base_bytes / cost.training_bytes,
    }
    if budget_bytes is not None:
        totals["budget_utilisation_ratio"] = cost.training_bytes / budget_bytes
    if cost.training_bytes > base_bytes and budget_bytes is None:
        logger.warning(
            "scheme %s takes %.3g times the bytes of uniform %d; give --budget to bound it",
            plan.scheme["kind"],
            cost.training_bytes / base_bytes,
            request.base_dim,
        )
    return totals
