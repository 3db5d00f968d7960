"""What ``mixdim compare`` is asked: a TOML file with recipes, sizings, budgets and seeds."""

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from models.sizing import SIZING
from service.config import TrainConfig
from service.presets import PRESETS
from service.sizing_request import SizingRequest

Metric = Literal["auto", "mse", "rmse", "auc", "log_loss", "ne"]
Table = Mapping[str, Any]

DEFAULT_BASELINE: Final = "uniform"
SET_BY_COMPARE: Final = frozenset(
    {"data", "sizing", "output", "plan", "nproc", "seed", "resume", "overwrite", "metrics_port"}
)
"""Settings of a training that a recipe cannot have: each run gets its own."""


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
    """By name: a scheme with its parameters and the settings of `SizingRequest`, or a file."""

    budgets: tuple[str, ...] = ()
    """Budgets of every sizing that names none: ``uniform:4`` for the bytes of uniform width 4,
    ``8x``, ``4MiB``. Without any, a scheme has the widths that it asks for."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 3, 4)
    """Seeds of weights and of the order of examples; differences are paired by them."""

    fields: tuple[str, ...] = ()
    """Fields to size in every sizing that names none; all by default."""

    baseline: str = DEFAULT_BASELINE
    """Sizing that the others are compared with at the same budget."""

    metric: Metric = "auto"
    """Score of the test split that is drawn; ``auto`` takes MSE of ratings and AUC of clicks."""

    bytes: Literal["training", "serving"] = "training"
    """Which bytes are drawn."""

    slices: tuple[str, ...] = ()
    """Fields by whose frequency the test scores are also given."""

    parallel: Annotated[int, Field(ge=0)] = 0
    """Runs at a time; 0 for as many as the cores allow."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of a run."""

    keep_runs: bool = False
    """Keep the run folders, checkpoints included."""

    def __post_init__(self) -> None:
        if self.baseline not in {*self.sizings, DEFAULT_BASELINE}:
            raise ValueError(
                f"baseline={self.baseline!r} is not a sizing; sizings: {', '.join(self.sizings)}"
            )

    @property
    def num_workers(self) -> int:
        """Runs at a time."""
        return self.parallel or max(1, len(os.sched_getaffinity(0)) // self.threads)


@dataclass(frozen=True, kw_only=True, slots=True)
class SizingChoice:
    """One way to size: a request without its budget, or a plan written by hand."""

    request: SizingRequest = field(default_factory=SizingRequest)
    budgets: tuple[str, ...] = ("",)
    """One plan each; an empty one stands for the widths that the scheme asks for."""
    file: Path | None = None
    has_optimizer: bool = False
    """Whether the request names the optimizer; else it is the recipe's."""


def read_spec(path: Path) -> CompareSpec:
    """Read a comparison.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not follow the form; the message names the place.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; docs/compare.md shows what to write")
    try:
        content = tomllib.loads(path.read_text())
        spec = TypeAdapter(CompareSpec).validate_python(content)
        for name in spec.recipes:
            recipe_of(spec, name)
        for name in spec.sizings:
            sizing_of(spec, name)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{path}: {_fault(error)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return spec


def recipe_of(spec: CompareSpec, name: str) -> TrainConfig:
    """The training of a recipe: its preset with its overrides.

    Raises:
        ValueError: If the preset is unknown, or an override is none of the training's settings.
    """
    overrides = dict(spec.recipes[name])
    place = f"recipes.{name}"
    preset = overrides.pop("preset", None)
    if preset not in PRESETS:
        raise ValueError(f"{place}.preset={preset!r}, expected one of {', '.join(PRESETS)}")
    if taken := sorted(SET_BY_COMPARE & overrides.keys()):
        raise ValueError(
            f"{place}.{taken[0]} is given, but compare sets {taken[0]} itself; leave it out"
        )
    adapter = TypeAdapter(TrainConfig)
    start = adapter.dump_python(PRESETS[preset](), mode="json")
    try:
        return adapter.validate_python(_merged(start, overrides))
    except ValidationError as error:
        raise ValueError(_fault(error, place)) from error


def sizing_of(spec: CompareSpec, name: str) -> SizingChoice:
    """One of the ways to size.

    Raises:
        ValueError: If a key belongs neither to the request nor to the scheme.
    """
    table, place = dict(spec.sizings[name]), f"sizings.{name}"
    if "file" in table:
        if len(table) > 1:
            others = ", ".join(sorted(table.keys() - {"file"}))
            raise ValueError(f"{place}: a file is a finished plan; leave out {others}")
        return SizingChoice(file=_valid(Path, table["file"], f"{place}.file"))
    budgets = _valid(
        tuple[str, ...], table.pop("budgets", spec.budgets or ("",)), f"{place}.budgets"
    )
    kind = table.pop("scheme", "uniform")
    if kind not in SIZING:
        raise ValueError(f"{place}.scheme={kind!r}, expected one of {', '.join(SIZING)}")
    shared = {f.name: f.type for f in dataclasses.fields(SizingRequest)}
    own = {f.name for f in dataclasses.fields(SIZING[kind])} - {"kind"}
    if foreign := sorted(table.keys() - (shared.keys() - {"scheme", "budget"}) - own):
        raise ValueError(
            f"{place}.{foreign[0]} means nothing to the scheme {kind!r}; its keys: "
            f"{', '.join(sorted(own))}; keys of all: file, scheme, budgets, "
            f"{', '.join(sorted(shared.keys() - {'scheme', 'budget'}))}"
        )
    of_request = {
        key: _valid(shared[key], value, f"{place}.{key}")
        for key, value in ({"fields": spec.fields} | table).items()
        if key in shared
    }
    of_scheme = {key: value for key, value in table.items() if key not in shared}
    try:
        scheme = TypeAdapter(SIZING[kind]).validate_python(of_scheme)
    except ValidationError as error:
        raise ValueError(_fault(error, place)) from error
    return SizingChoice(
        request=SizingRequest(scheme=scheme, **of_request),
        budgets=budgets or ("",),
        has_optimizer="optimizer" in table,
    )


def _merged(start: Table, overrides: Table) -> dict[str, Any]:
    """Overrides laid over a table, and tables over tables; another ``kind`` starts afresh."""
    merged = dict(start)
    for key, value in overrides.items():
        below = merged.get(key)
        is_same_kind = (
            isinstance(below, dict)
            and isinstance(value, dict)
            and value.get("kind", below.get("kind")) == below.get("kind")
        )
        merged[key] = _merged(below, value) if isinstance(below, dict) and is_same_kind else value
    return merged


def _valid(kind: Any, value: object, place: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(_fault(error, place)) from error


def _fault(error: ValidationError, *place: str) -> str:
    """The first thing that is wrong, with its place and value."""
    fault = error.errors()[0]
    where = ".".join([*place, *map(str, fault["loc"])])
    value = f" (value {fault['input']!r})" if not isinstance(fault["input"], dict) else ""
    is_unknown = fault["type"] in {"unexpected_keyword_argument", "extra_forbidden"}
    return f"{where}: {'there is no such key' if is_unknown else fault['msg']}{value}"
