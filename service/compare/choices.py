"""What the names of a comparison stand for: trainings, requests for plans, plans, warm-ups."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from models.sizing import SIZING
from service.adapters import adapter_of
from service.compare.spec import CompareSpec, Table, parse_spec
from service.config import TrainConfig
from service.first_fault import first_fault
from service.presets import PRESETS
from service.search.config import SET_BY_SEARCH
from service.search.methods import METHODS, Method
from service.sizing_request import SizingRequest

SET_BY_COMPARE: Final = frozenset(
    {"data", "sizing", "output", "plan", "nproc", "seed", "resume", "overwrite", "metrics_port"}
)
"""Settings of a training that nobody can choose: each run gets its own."""
SEARCHES_SHARE: Final = frozenset({"dim", "fields"})
"""Settings that every search has, besides budgets and training."""
REFERENCE: Final = "@"
"""What stands before the name of a warm-up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizingChoice:
    """One way to size: a request without its budget, a search, or a plan written by hand."""

    request: SizingRequest = field(default_factory=SizingRequest)
    """Of a search, the uniform tables that it starts from."""
    method: Method | None = None
    """How to search, with the method's own options."""
    budgets: tuple[str, ...] = ("",)
    """One plan each; an empty one stands for the widths that the scheme asks for."""
    file: Path | None = None
    given: frozenset[str] = frozenset()
    """Keys of the request that the comparison names; others may follow the recipe."""
    train: Table = field(default_factory=dict)
    """Settings of the training that this sizing overrides."""
    is_measured: bool = False
    """Whether the plan depends on a warm-up."""


def read_spec(path: Path) -> CompareSpec:
    """Read a comparison and look into all of it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not follow the form; the message names the place.
    """
    try:
        spec = parse_spec(path)
        _check_names(spec)
        folders = {name: Path(name) for name in spec.warm_ups}
        budgets: set[str] = set()
        for kind in ("warm_ups", "sizings"):
            for name in getattr(spec, kind):
                choice = sizing_of(spec, name, folders if kind == "sizings" else {}, kind)
                budgets |= set(choice.budgets) if kind == "sizings" else set()
                for recipe in spec.recipes:
                    recipe_of(spec, recipe)
                    recipe_of(spec, recipe, choice.train, f"{kind}.{name}.train")
        if unknown := sorted({*spec.serve_budgets} - budgets):
            raise ValueError(
                f"serve_budgets: no sizing has the budget {unknown[0]!r}; budgets: "
                f"{', '.join(map(repr, sorted(budgets)))}"
            )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return spec


def _check_names(spec: CompareSpec) -> None:
    for kind, example in (("recipes", 'preset = "mf"'), ("sizings", 'scheme = "uniform"')):
        if not getattr(spec, kind):
            raise ValueError(f"it has no {kind}; give at least one: [{kind}.NAME], {example}")
    if slashed := [name for name in spec.recipes if name in {"", ".", ".."} or "/" in name]:
        raise ValueError(f"recipes: {slashed[0]!r} names files; use a name without '/'")
    if marked := [name for name in spec.sizings if name.startswith(REFERENCE)]:
        raise ValueError(
            f"sizings: {marked[0]!r} reads like a warm-up; use a name without {REFERENCE!r} there"
        )


def recipe_of(
    spec: CompareSpec, name: str, overrides: Table | None = None, place: str = ""
) -> TrainConfig:
    """The training of a recipe: its preset with its overrides, and those of a sizing.

    Raises:
        ValueError: If the preset is unknown, or an override is none of the training's settings.
    """
    table = dict(spec.recipes[name])
    preset = table.pop("preset", None)
    if preset not in PRESETS:
        expected = ", ".join(PRESETS)
        raise ValueError(f"recipes.{name}.preset={preset!r}, expected one of {expected}")
    settings = adapter_of(TrainConfig).dump_python(PRESETS[preset](), mode="json")
    for where, changes in ((f"recipes.{name}", table), (place, overrides or {})):
        if taken := sorted(SET_BY_COMPARE & changes.keys()):
            raise ValueError(
                f"{where}.{taken[0]} is given, but compare sets {taken[0]} itself; leave it out"
            )
        settings = _merged(settings, changes)
        config = _valid(TrainConfig, settings, where)
    assert isinstance(config, TrainConfig)
    return config


def sizing_of(
    spec: CompareSpec, name: str, folders: Mapping[str, Path], kind: str = "sizings"
) -> SizingChoice:
    """One of the ways to size.

    Args:
        spec: The comparison.
        name: One of its sizings.
        folders: Run folders of the warm-ups by name.
        kind: ``sizings`` or ``warm_ups``.

    Raises:
        ValueError: If a key belongs neither to the request nor to the scheme, or a warm-up is none.
    """
    place = f"{kind}.{name}"
    table = _with_folders(dict(getattr(spec, kind)[name]), folders, place)
    train = table.pop("train", {})
    if "file" in table:
        if others := ", ".join(sorted(table.keys() - {"file"})):
            raise ValueError(f"{place}: a file is a finished plan; leave out {others}")
        return SizingChoice(file=_valid(Path, table["file"], f"{place}.file"), train=train)
    default = spec.budgets if kind == "sizings" else ()
    asked = _valid(tuple[str, ...], table.pop("budgets", default), f"{place}.budgets")
    budgets = tuple(dict.fromkeys(asked))
    if kind != "sizings" and len(budgets) > 1:
        raise ValueError(f"{place}.budgets names {len(budgets)}; a warm-up is one training: give 1")
    mentioned = references(getattr(spec, kind)[name], besides="train")
    if "search" in table and kind != "sizings":
        raise ValueError(f"{place}.search: a search is no warm-up; make it one of the sizings")
    method = _method(table, place) if "search" in table else None
    if method is not None and (taken := sorted({*SET_BY_SEARCH} & train.keys())):
        raise ValueError(
            f"{place}.train.{taken[0]} is given, but a search sets it for every training itself; "
            f"leave it out"
        )
    return SizingChoice(
        request=_request(spec, table, place),
        method=method,
        budgets=budgets or ("",),
        given=frozenset(table),
        train=train,
        is_measured=any(mentioned),
    )


def _request(spec: CompareSpec, table: dict[str, Any], place: str) -> SizingRequest:
    kind = table.pop("scheme", "uniform")
    if kind not in SIZING:
        raise ValueError(f"{place}.scheme={kind!r}, expected one of {', '.join(SIZING)}")
    types = {f.name: f.type for f in dataclasses.fields(SizingRequest)}
    shared = types.keys() - {"scheme", "budget"}
    own = {f.name for f in dataclasses.fields(SIZING[kind])} - {"kind"}
    if foreign := sorted(table.keys() - shared - own):
        raise ValueError(
            f"{place}.{foreign[0]} means nothing to the scheme {kind!r}; its keys: "
            f"{', '.join(sorted(own))}; keys of all: file, scheme, budgets, train, "
            f"{', '.join(sorted(shared))}"
        )
    settings = {"fields": spec.fields, "base_dim": spec.dim} | table
    return SizingRequest(
        scheme=_valid(SIZING[kind], {k: v for k, v in table.items() if k not in shared}, place),
        **{
            key: _valid(types[key], value, f"{place}.{key}")
            for key, value in settings.items()
            if key in shared
        },
    )


def _method(table: dict[str, Any], place: str) -> Method:
    """The search that a table asks for, its keys taken out of the table.

    What is left are those of the uniform tables that the search starts from.
    """
    kind = table.pop("search")
    if kind not in METHODS:
        raise ValueError(f"{place}.search={kind!r}, expected one of {', '.join(METHODS)}")
    options = {f.name for f in dataclasses.fields(METHODS[kind])} - {"kind"}
    if foreign := sorted(table.keys() - options - SEARCHES_SHARE):
        raise ValueError(
            f"{place}.{foreign[0]} means nothing to the search {kind!r}; its keys: "
            f"{', '.join(sorted(options))}; keys of all searches: search, budgets, train, "
            f"{', '.join(sorted(SEARCHES_SHARE))}"
        )
    given = {key: table.pop(key) for key in options & table.keys()}
    table |= {"base_dim": dim} if (dim := table.get("dim")) is not None else {}
    return _valid(METHODS[kind], given, place)  # type: ignore[no-any-return]  # one of them


def references(value: object, *, besides: str = "") -> Iterator[str]:
    """Names of the warm-ups that a table mentions, one of its keys left out."""
    if isinstance(value, str) and value.startswith(REFERENCE):
        yield value.removeprefix(REFERENCE)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key != besides:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def _with_folders(value: Any, folders: Mapping[str, Path], place: str) -> Any:
    """The same with run folders in the place of warm-ups' names."""
    if isinstance(value, Mapping):
        return {k: _with_folders(inner, folders, f"{place}.{k}") for k, inner in value.items()}
    if isinstance(value, list):
        return [_with_folders(inner, folders, place) for inner in value]
    if not isinstance(value, str) or not value.startswith(REFERENCE):
        return value
    name = value.removeprefix(REFERENCE)
    if name not in folders:
        known = ", ".join(folders) or "there are none"
        raise ValueError(f"{place}={value!r} names no warm-up; warm-ups: {known}")
    return str(folders[name])


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
        return adapter_of(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(first_fault(error, place)) from error
