"""From a dataset's statistics to ``sizing.json``: the function behind ``mixdim size``."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from models.sizing import (
    BudgetFor,
    RowAlignment,
    Serving,
    ServingDtype,
    SizingScheme,
    Solver,
    Spectral,
    Uniform,
    equipartition,
    parse_budget,
    plan_bytes,
    size_in_blocks,
    uniform_bytes,
)
from models.sizing.base import FittedScheme, ValuedScheme
from models.sizing.rows import named_with_tails, rows_above, share_rare_rows
from models.tables import FieldStats, Join, SizingPlan, SparseOptimizer
from service.data.dataset import DATASET_FILE, DatasetInfo, read_dataset_info
from service.data.lookups import lookups_per_id
from service.sizing import (
    DEFAULT_BASE_DIM,
    FORMAT_VERSION,
    DatasetReference,
    SizingFile,
    check_trainable,
)
from service.sizing_budget import at_out_dim, base_bytes, counted_bytes, fit_budget

logger = logging.getLogger(__name__)

Rows = Literal["keep", "auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SizingRequest:
    """What to size, how, and how large it may be."""

    scheme: SizingScheme = field(default_factory=Uniform)
    """Which widths are asked for."""

    budget: str | None = None
    """Bytes that must not be exceeded, or ``Nx``; None: the scheme's widths."""

    budget_for: BudgetFor = "training"
    """Which bytes these are: of training, or of the exported tables and their projections."""

    dtype: ServingDtype = "fp32"
    """What weights are stored as when they are served; tables get widths that it takes."""

    row_alignment: RowAlignment = 1
    """Bytes whose multiple a served row takes: 1 on CPUs, 16 on GPUs."""

    optimizer: SparseOptimizer = "rowwise_adagrad"
    """Fused optimizer of the tables; its state counts."""

    base_dim: int = DEFAULT_BASE_DIM
    """Width of the uniform model that ``Nx`` is measured against."""

    out_dim: int | None = None
    """Width after projection; the widest table's by default."""

    fields: tuple[str, ...] = ()
    """Fields to size, in the order of the dataset; all where empty."""

    join: Join = "project"
    """How the model brings fields together; where it concatenates, fields need no projections."""

    solver: Solver = "exact"
    """``exact`` for the best plan, ``scale`` for the paper's one factor, ``fill`` for that and what
    rounding leaves over."""

    rows: Rows = "keep"
    """``keep`` all rows, or let the budget trade rows of rare ids for width: ``auto``."""

    row_fields: tuple[str, ...] = ()
    """Fields whose rows may be traded; all sized fields where empty. Every field that is cut has
    one more table, which takes time in every step."""

    min_lookups: int = 0
    """Ids that training looks up less often share one row; 0 for none."""

    hash_tail: float = 0.0
    """Rows that rare ids share, as a share of their number; 0 for one row."""

    blocks: int = 1
    """Runs of equal mass that a field is cut into, each with a width of its own."""

    block_fields: tuple[str, ...] = ()
    """Fields that are cut into runs; all sized fields where empty."""

    def __post_init__(self) -> None:
        for name in ("base_dim", "out_dim"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value}, expected at least 1; try {DEFAULT_BASE_DIM}")
        self._check_rows()
        assert self.serving  # raises where the alignment is none
        if self.blocks < 1:
            raise ValueError(f"blocks={self.blocks}, expected at least 1; 1 is an ordinary table")

    @property
    def serving(self) -> Serving:
        """How tables are exported."""
        return Serving(dtype=self.dtype, row_alignment=self.row_alignment)

    def _check_rows(self) -> None:
        if isinstance(self.scheme, FittedScheme):
            for name, value, default in (
                ("rows", self.rows, "keep"),
                ("min_lookups", self.min_lookups, 0),
                ("blocks", self.blocks, 1),
            ):
                if value != default:
                    raise ValueError(
                        f"{name}={value!r} decides which rows there are, and so does scheme "
                        f"{self.scheme.kind!r}; leave it out"
                    )
        if self.min_lookups < 0:
            raise ValueError(f"min_lookups={self.min_lookups}, expected 0 or more; try 10")
        if not 0 <= self.hash_tail < 1:
            raise ValueError(f"hash_tail={self.hash_tail}, expected in [0, 1); try 0.01")
        if self.rows == "auto" and self.min_lookups:
            raise ValueError(
                f"min_lookups={self.min_lookups} decides which rows are kept, and so does "
                f"rows='auto'; give one of them"
            )
        if self.row_fields and self.rows == "keep":
            raise ValueError(
                f"row_fields={list(self.row_fields)} trade rows for width, and rows='keep' keeps "
                f"all; give rows='auto' as well"
            )
        if self.rows == "auto" and self.budget is None:
            raise ValueError("rows='auto' trades rows for width under a budget; give a budget")
        if self.hash_tail and self.rows == "keep" and not self.min_lookups:
            raise ValueError(
                f"hash_tail={self.hash_tail} without a tail, for all rows are kept; give "
                f"min_lookups or rows='auto' as well"
            )


def size_dataset(folder: Path, request: SizingRequest) -> SizingFile:
    """Size the tables of a dataset; the function behind ``mixdim size``.

    Raises:
        FileNotFoundError: If the folder is not a finished dataset.
        ValueError: If a field, a budget or a scheme's parameter makes no sense.
        PlanError: If the budget is too small for any plan.
    """
    info = read_dataset_info(folder)
    fields = chosen_fields(info.field_stats, request.fields, "--fields")
    cut = (
        chosen_fields(fields, request.block_fields, "--block-fields") if request.blocks > 1 else []
    )
    chosen_fields(fields, request.row_fields, "--row-fields")
    counts = {stats.name: lookups_per_id(folder, stats.name) for stats in cut}
    if isinstance(request.scheme, Spectral) and not request.scheme.spectra:
        request = replace(request, scheme=_measured(request, folder, fields, counts))
    asked = plan_fields(fields, request, counts)
    scheme = request.scheme
    values = scheme.values(asked) or None if isinstance(scheme, ValuedScheme) else None
    if request.min_lookups:
        every = {stats.name: lookups_per_id(folder, stats.name) for stats in fields}
        kept = {name: rows_above(each, request.min_lookups) for name, each in every.items()}
        values = values and named_with_tails(asked, kept, values)
        asked = share_rare_rows(asked, kept, request.hash_tail)
    plan, budget_bytes, gap_ratio = at_out_dim(asked, request), None, 0.0
    if request.budget is not None:
        budget_bytes = parse_budget(request.budget, base_bytes(fields, request))
        fitted = fit_budget(asked, budget_bytes, fields, request, counts, values)
        plan, gap_ratio = fitted.plan, fitted.gap_ratio
    return SizingFile(
        format_version=FORMAT_VERSION,
        scheme=plan.scheme,
        optimizer=request.optimizer,
        budget=request.budget,
        budget_bytes=budget_bytes,
        budget_for=request.budget_for,
        dtype=request.dtype,
        row_alignment=request.row_alignment,
        base_dim=request.base_dim,
        dataset=_reference(folder, info),
        out_dim=plan.out_dim,
        join=request.join,
        fields=plan.fields,
        reasons=plan.reasons,
        totals=_totals(plan, fields, request, budget_bytes, gap_ratio),
    )


def _reference(folder: Path, info: DatasetInfo) -> DatasetReference:
    """Which dataset a plan is for."""
    sha256 = hashlib.sha256((folder / DATASET_FILE).read_bytes()).hexdigest()
    return DatasetReference(source=info.source, sha256=sha256)


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


def plan_fields(
    fields: Sequence[FieldStats], request: SizingRequest, counts: Mapping[str, NDArray[Any]]
) -> SizingPlan:
    """What the scheme of a request asks for; ``counts`` are of fields to cut into runs."""
    scheme = request.scheme
    plan = size_in_blocks(scheme, fields, counts, request.blocks) if counts else scheme(fields)
    return replace(plan, join=request.join)


def chosen_fields(
    fields: Sequence[FieldStats], names: Sequence[str], flag: str
) -> list[FieldStats]:
    """Those of some fields that are named; all where no name is given.

    Raises:
        ValueError: If a name is none of theirs; the message begins with the flag.
    """
    known = [stats.name for stats in fields]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{flag}: {unknown} are not fields; fields: {', '.join(known)}")
    return [stats for stats in fields if not names or stats.name in names]


def _totals(
    plan: SizingPlan,
    fields: Sequence[FieldStats],
    request: SizingRequest,
    budget_bytes: int | None,
    gap_ratio: float,
) -> dict[str, float]:
    """The four figures of a plan, and how they compare."""
    request.serving.check(plan)
    check_trainable(plan, request.optimizer)
    cost = plan_bytes(plan, request.optimizer, request.serving)
    uniform = uniform_bytes(fields, request.base_dim, request.optimizer)
    totals: dict[str, float] = {
        "embedding_params": cost.embedding_params,
        "projection_params": cost.projection_params,
        "training_bytes": cost.training_bytes,
        "serving_bytes": cost.serving_bytes,
        "uniform_training_bytes": uniform,
        "compression_ratio": uniform / cost.training_bytes,
        "uniform_serving_bytes": uniform_bytes(fields, request.base_dim, serving=Serving()),
    }
    if budget_bytes is not None:
        totals["budget_utilisation_ratio"] = counted_bytes(plan, request) / budget_bytes
        if request.solver == "exact":
            totals["solver_gap_ratio"] = gap_ratio
    if cost.training_bytes > uniform and budget_bytes is None:
        logger.warning(
            "scheme %s takes %.3g times the bytes of uniform %d; give --budget to bound it",
            plan.scheme["kind"],
            cost.training_bytes / uniform,
            request.base_dim,
        )
    return totals
