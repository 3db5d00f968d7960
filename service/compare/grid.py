"""Every run that a comparison asks for, sized and known by what decides its result."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from models.sizing import plan_bytes, uniform_bytes
from models.tables import FieldStats, PlanError, SparseOptimizer
from service.compare.spec import CompareSpec, SizingChoice, recipe_of, sizing_of
from service.config import TrainConfig
from service.data.dataset import DATASET_FILE, DatasetInfo, read_dataset_info
from service.run_folder import file_sha256
from service.sizing import SizingFile, read_sizing, write_sizing
from service.sizing_request import SizingRequest, size_dataset
from service.train.slices import check_slice

logger = logging.getLogger(__name__)

SIZINGS = "sizings"
RUNS = "runs"

WITHOUT_EFFECT: Final = frozenset(
    {
        *("data", "sizing", "output", "plan", "nproc", "resume", "overwrite", "keep_checkpoints"),
        *("checkpoint_every", "log_every", "metrics_port", "metrics_host", "matmul"),
    }
)
"""Settings of a training that do not change its result, or are hashed by content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One plan under one recipe; each seed is a run of it."""

    recipe: str
    sizing: str
    budget: str
    """As it was asked for; empty where the scheme's own widths are taken."""
    config: TrainConfig
    """The recipe; seed and output folder are each run's own."""
    plan: SizingFile

    @property
    def figures(self) -> dict[str, int]:
        """The four figures of the plan under the recipe's optimizer."""
        # What a network does with the vectors decides whether narrow tables need projections.
        plan = replace(self.plan.plan, join=self.config.network.join)
        cost = plan_bytes(plan, self.config.optimizer.sparse)
        return {
            "embedding_params": cost.embedding_params,
            "embedding_and_projection_params": cost.embedding_params + cost.projection_params,
            "training_bytes": cost.training_bytes,
            "serving_bytes": cost.serving_bytes,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training of a comparison."""

    cell: Cell
    seed: int
    digest: str
    """Hash of everything that decides the result; runs of the same hash are trained once."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        cell = self.cell
        return " ".join(filter(None, (cell.recipe, cell.sizing, cell.budget, f"seed {self.seed}")))


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """What a comparison asks for."""

    runs: tuple[Run, ...]
    infeasible: Mapping[str, str]
    """Why there is no plan, by recipe, sizing and budget."""


def expand(spec: CompareSpec) -> Grid:
    """Size every cell of a comparison, write its plan, and list its runs.

    Raises:
        FileNotFoundError: If there is no dataset.
        ValueError: If a sizing or a slice does not fit the dataset.
        PlanError: If no cell at all can be planned.
    """
    info = read_dataset_info(spec.data)
    for field in spec.slices:
        check_slice(info, field)
    dataset = file_sha256(spec.data / DATASET_FILE)
    infeasible: dict[str, str] = {}
    cells = list(_cells(spec, info, infeasible))
    if not cells:
        place, why = next(iter(infeasible.items()))
        raise PlanError(f"no run can be planned; {place}: {why}", needed_bytes=0)
    runs = tuple(
        Run(cell=cell, seed=seed, digest=_digest(cell, seed, dataset, spec.slices))
        for seed in spec.seeds  # a stopped comparison has whole seeds of every cell
        for cell in cells
    )
    return Grid(runs=runs, infeasible=infeasible)


def _cells(spec: CompareSpec, info: DatasetInfo, infeasible: dict[str, str]) -> Iterator[Cell]:
    plans: dict[str, SizingFile | PlanError] = {}
    for recipe in spec.recipes:
        config = recipe_of(spec, recipe)
        for sizing in spec.sizings:
            choice = sizing_of(spec, sizing)
            for budget in choice.budgets:
                key = f"{sizing} {budget} {config.optimizer.sparse}"
                if key not in plans:
                    plans[key] = _sized(spec.data, info, choice, budget, config.optimizer.sparse)
                plan = plans[key]
                if isinstance(plan, PlanError):
                    infeasible[" ".join(filter(None, (recipe, sizing, budget)))] = str(plan)
                    continue
                path = spec.output / SIZINGS / recipe / f"{_file_name(sizing, budget)}.json"
                yield Cell(
                    recipe=recipe,
                    sizing=sizing,
                    budget=budget,
                    config=replace(config, data=spec.data, sizing=path),
                    plan=plan,
                )


def write_plans(grid: Grid) -> None:
    """Write the sizing file of every cell where its runs look for it."""
    for path, plan in {run.cell.config.sizing: run.cell.plan for run in grid.runs}.items():
        write_sizing(plan, path)


def _sized(
    data: Path, info: DatasetInfo, choice: SizingChoice, budget: str, optimizer: SparseOptimizer
) -> SizingFile | PlanError:
    if choice.file is not None:
        sizing = read_sizing(choice.file)
        sizing.check_against(info)
        return sizing
    request = choice.request
    if not choice.has_optimizer:
        request = replace(request, optimizer=optimizer)
    fields = [s for s in info.field_stats if not request.fields or s.name in request.fields]
    try:
        return size_dataset(data, replace(request, budget=budget_of(budget, fields, request)))
    except PlanError as error:
        return error


def budget_of(text: str, fields: list[FieldStats], request: SizingRequest) -> str | None:
    """A budget in the words of a request; ``uniform:4`` becomes the bytes of uniform width 4."""
    match = re.fullmatch(r"uniform:(\d+)", text.strip())
    if not match:
        return text or None
    return str(uniform_bytes(fields, int(match[1]), request.optimizer))


def _digest(cell: Cell, seed: int, dataset: str, slices: tuple[str, ...]) -> str:
    """Hash of the data, the plan and the training; paths and talk left out."""
    settings = TypeAdapter(TrainConfig).dump_python(replace(cell.config, seed=seed), mode="json")
    plan = TypeAdapter(SizingFile).dump_python(cell.plan, mode="json")
    deciding: dict[str, Any] = {
        "dataset": dataset,
        "plan": {
            "out_dim": plan["out_dim"],
            "fields": {
                name: [
                    {key: value for key, value in block.items() if key != "asked_dim"}
                    for block in blocks
                ]
                for name, blocks in plan["fields"].items()
            },
        },
        "training": {k: v for k, v in settings.items() if k not in WITHOUT_EFFECT},
        "slices": sorted(slices),
    }
    text = json.dumps(deciding, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _file_name(sizing: str, budget: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{sizing} {budget}".strip())
