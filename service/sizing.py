"""``sizing.json``: how wide every table is, in a file that a person can read and change.

The blocks of every field and ``out_dim`` are what counts. ``reasons`` and ``totals`` are there to
be read, and are not read back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from models.layout import Layout
from models.sizing import BudgetFor, PlanBytes, RowAlignment, Serving, ServingDtype, plan_bytes
from models.tables import (
    PACKED_DIMS,
    WIDTH_STEP,
    Block,
    Join,
    SizingPlan,
    SparseOptimizer,
    Table,
    is_fused,
)
from service.data.dataset import DatasetInfo
from service.first_fault import first_fault

FORMAT_VERSION: Final = 1
DEFAULT_BASE_DIM: Final = 16
"""Width of the uniform model that plans are compared with, and that ``Nx`` budgets divide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetReference:
    """Which dataset a plan was made for."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    source: str = ""
    """Name of its reader."""
    sha256: str = ""
    """Hash of its ``dataset.json``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizingFile:
    """``sizing.json``: a plan, what it was made for, and what it costs."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format_version: int
    fields: Mapping[str, Annotated[tuple[Block, ...], Field(min_length=1)]]
    """Blocks of every field, most frequent ids first."""
    out_dim: Annotated[int, Field(ge=1)]
    join: Join = "project"
    """How the model that bytes are counted for joins fields; what is trained joins as it does."""
    scheme: Mapping[str, Any] = field(default_factory=dict)
    """The scheme and its parameters."""
    optimizer: SparseOptimizer = "rowwise_adagrad"
    """Fused optimizer that the bytes are counted for."""
    budget: str | None = None
    """The budget as it was asked for."""
    budget_bytes: int | None = None
    budget_for: BudgetFor = "training"
    """Which bytes the budget bounds."""
    dtype: ServingDtype = "fp32"
    """What serving bytes are counted for; ``mixdim evaluate --dtype`` says what it costs."""
    row_alignment: RowAlignment = 1
    """Bytes whose multiple a served row takes."""
    base_dim: int = DEFAULT_BASE_DIM
    """Width of the uniform model that the plan is compared with."""
    dataset: DatasetReference = DatasetReference()
    reasons: Mapping[str, str] = field(default_factory=dict)
    totals: Mapping[str, float] = field(default_factory=dict)

    @property
    def plan(self) -> SizingPlan:
        """The plan as models, shardings and schemes know it."""
        return SizingPlan(
            fields=self.fields,
            out_dim=self.out_dim,
            join=self.join,
            scheme=self.scheme,
            reasons=self.reasons,
        )

    @property
    def serving(self) -> Serving:
        """How the tables are exported."""
        return Serving(dtype=self.dtype, row_alignment=self.row_alignment)

    def check_budget(self, optimizer: SparseOptimizer) -> None:
        """Refuse an optimizer whose state takes the plan past its budget of training bytes.

        A plan that was changed by hand may take more than its budget: that was wanted.

        Raises:
            ValueError: If the plan was made for another optimizer and does not fit under this one.
        """
        if self.budget_bytes is None or self.budget_for == "serving" or optimizer == self.optimizer:
            return
        needed = plan_bytes(self.plan, optimizer).training_bytes
        if needed > self.budget_bytes:
            raise ValueError(
                f"the sizing plan takes {needed:,} bytes under {optimizer}, its budget of "
                f"{self.budget_bytes:,} bytes was solved for {self.optimizer}; size again with "
                f"--optimizer {optimizer}, or train with --optimizer.sparse {self.optimizer}"
            )

    def check_against(self, info: DatasetInfo) -> None:
        """Refuse a dataset whose fields are not those that were sized.

        Raises:
            ValueError: If a field is missing or has another number of rows.
        """
        rows = {stats.name: stats.num_embeddings for stats in info.field_stats}
        for name, blocks in self.fields.items():
            sized = sum(block.num_ids for block in blocks)
            if name not in rows:
                raise ValueError(
                    f"field {name!r} is sized but not in the dataset, which has {list(rows)}; "
                    f"run mixdim size again"
                )
            if sized != rows[name]:
                raise ValueError(
                    f"field {name}: sizing has {sized} rows, dataset has {rows[name]}; "
                    f"run mixdim size again"
                )


_ADAPTER: Final = TypeAdapter(SizingFile)


def write_sizing(sizing: SizingFile, path: Path) -> None:
    """Write ``sizing.json`` in one move, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(_ADAPTER.dump_json(sizing, indent=1) + b"\n")
    draft.rename(path)


def read_sizing(path: Path) -> SizingFile:
    """Read ``sizing.json``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, or does not follow the format; every message names the field
            and the value.
    """
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, expected a sizing plan such as {path / 'sizing.json'}; give the "
            f"file that `mixdim size` wrote, or make it with `mixdim size DATA --output FILE`"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; make it with `mixdim size DATA`")
    try:
        sizing = _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error)}") from error
    if sizing.format_version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version={sizing.format_version}, expected {FORMAT_VERSION}; "
            f"run mixdim size again"
        )
    try:
        check_trainable(sizing.plan, sizing.optimizer)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return sizing


def check_trainable(
    plan: Layout, optimizer: SparseOptimizer, device: Literal["cpu", "cuda"] = "cpu"
) -> None:
    """Refuse widths that an optimizer's kernels do not take; dense tables may have any.

    Raises:
        ValueError: If the optimizer is fused and a width is neither 1, 2 nor a multiple of 4.
    """
    if is_fused(optimizer, device) and (odd := odd_table(plan)):
        nearest = -(-odd.embedding_dim // WIDTH_STEP) * WIDTH_STEP
        raise ValueError(
            f"table {odd.name!r}: embedding_dim={odd.embedding_dim}, expected 1, 2 or a multiple "
            f"of {WIDTH_STEP} (FBGEMM kernels); try {nearest}, or train with amsgrad"
        )


def odd_table(plan: Layout) -> Table | None:
    """A table whose width only dense kernels take; None where there is none."""
    return next(
        (
            table
            for table in plan.tables()
            if table.embedding_dim % WIDTH_STEP and table.embedding_dim not in PACKED_DIMS
        ),
        None,
    )


def sizing_bytes(sizing: SizingFile) -> PlanBytes:
    """What the plan of a file costs under the optimizer it was made for."""
    return plan_bytes(sizing.plan, sizing.optimizer, sizing.serving)


def budgeted_bytes(sizing: SizingFile) -> int:
    """Bytes that the budget of a file bounds."""
    cost = sizing_bytes(sizing)
    return cost.serving_bytes if sizing.budget_for == "serving" else cost.training_bytes
