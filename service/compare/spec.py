"""What ``mixdim compare`` is asked: a file with recipes, sizings, budgets and seeds."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from models.sizing.base import check_width
from service.data.dataset import Task
from service.first_fault import first_fault
from service.sizing import DEFAULT_BASE_DIM

Metric = Literal["auto", "mse", "rmse", "auc", "log_loss", "ne"]
METRICS: Final[Mapping[Task, tuple[Metric, ...]]] = MappingProxyType(
    {"rating": ("mse", "rmse"), "click": ("auc", "log_loss", "ne")}
)
"""What may be drawn, by task; the first one where nothing is asked for."""
Rounded = Literal["fp16", "int8", "int4"]
Table = Mapping[str, Any]

DEFAULT_BASELINE: Final = "uniform"


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareSpec:
    """Runs are recipes x sizings x budgets x seeds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    data: Path = Path("data")
    """Dataset folder written by ``mixdim prepare``."""

    output: Path = Path("frontier")
    """Folder of the records and of the frontier."""

    recipes: Annotated[Mapping[str, Table], Field(min_length=1)] = field(default_factory=dict)
    """By name: a preset, and settings of `TrainConfig` that override it."""

    sizings: Annotated[Mapping[str, Table], Field(min_length=1)] = field(default_factory=dict)
    """By name: a scheme with its parameters and the settings of `SizingRequest`, a search with its
    options, or a file."""

    warm_ups: Mapping[str, Table] = field(default_factory=dict)
    """By name: sizings whose runs come first; ``"@NAME"`` in another sizing is the run folder."""

    budgets: tuple[str, ...] = ()
    """Budgets of every sizing that names none: ``uniform:4`` for the bytes of uniform width 4,
    ``8x``, ``4MiB``. Without any, a scheme has the widths that it asks for."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 3, 4)
    """Seeds of weights and of the order of examples; differences are paired by them."""

    dim: int = DEFAULT_BASE_DIM
    """Width of the uniform model that ``8x`` is measured against, and that every search starts
    from, where a sizing says nothing else."""

    fields: tuple[str, ...] = ()
    """Fields to size in every sizing that names none; all by default."""

    baseline: str = DEFAULT_BASELINE
    """Sizing that the others are compared with at the same budget."""

    metric: Metric = "auto"
    """Score that is drawn, of the test split, or of validation where a dataset has no test rows;
    ``auto`` takes MSE of ratings and AUC of clicks."""

    bytes: Literal["training", "serving"] = "training"
    """Which bytes are drawn."""

    slices: tuple[str, ...] = ()
    """Fields by whose frequency the test scores are also given."""

    serve_as: tuple[Rounded, ...] = ()
    """Also score every plan with its tables rounded to these, each a row of its own."""

    serve_budgets: tuple[str, ...] = ()
    """Budgets whose plans are rounded; all by default."""

    parallel: int = 0
    """Runs at a time; 0 for as many as the cores allow."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of a run."""

    keep_runs: bool = False
    """Keep the run folders, checkpoints included."""

    def __post_init__(self) -> None:
        check_width("dim", self.dim)
        if self.parallel < 0:
            raise ValueError(f"parallel={self.parallel}, expected 0 or more")
        if self.baseline not in {*self.sizings, DEFAULT_BASELINE}:
            raise ValueError(
                f"baseline={self.baseline!r} is not a sizing; sizings: {', '.join(self.sizings)}"
            )

    def dtypes_of(self, budget: str) -> tuple[Rounded, ...]:
        """What the tables of plans of a budget are rounded to."""
        is_served = not self.serve_budgets or budget in self.serve_budgets
        return self.serve_as if is_served else ()

    @property
    def num_workers(self) -> int:
        """Runs at a time."""
        return self.parallel or max(1, len(os.sched_getaffinity(0)) // self.threads)


def parse_spec(path: Path) -> CompareSpec:
    """Read the form of a comparison; recipes and sizings are looked into by `choices`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not follow the form; the message names the place.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; docs/compare.md shows what to write")
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return TypeAdapter(CompareSpec).validate_python(content)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ValueError(str(error)) from error
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
