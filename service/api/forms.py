"""What a form for a job asks: the things that a verb needs, and every option with its meaning."""

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path, PurePath
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from service.api.asked import JobRequest, Verb
from service.api.errors import ApiError
from service.api.options import REFERENCES, Form, names_path
from service.api.verbs import (
    SOURCES,
    compare_form,
    evaluate_form,
    export_form,
    prepare_form,
    search_form,
    size_form,
    train_form,
)
from service.presets import PRESETS
from service.search.methods import METHODS

Type = Literal["boolean", "integer", "number", "text", "list", "mapping", "json"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One of the values that something can have."""

    name: str
    summary: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A thing or an option that a request may give."""

    name: str
    """Of the thing; of an option its flag."""
    type: Type = "text"
    default: Any = None
    choices: list[Choice] | None = None
    """All values that it can have; any of its type where there are none."""
    among: str | None = None
    """What it names one of: datasets, sizings, runs or uploads."""
    is_list: bool = False
    is_required: bool = False
    help: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobForm:
    """All that a request for a verb may say, besides its machines."""

    verb: Verb
    summary: str
    things: list[Asked]
    options: list[Asked]
    schedulers: list[str]
    """Where it may run; the first one where a request names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outline:
    """What is asked before the options, and whence these come."""

    start: Callable[[str, str], Form]
    """The verb's form for a preset and a method."""
    summary: str
    things: Mapping[str, str | None]
    """Names of requests' fields -> what they name one of."""
    optional: Sequence[str] = ()


def _summary(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _placeholder(kind: Any) -> Any:
    """A source whose files are not known yet."""
    files = {"inputs": (), "ratings": Path(), "schema": Path()}
    names = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in files.items() if name in names})


_OUTLINES: Final[Mapping[str, _Outline]] = types.MappingProxyType(
    {
        "prepare": _Outline(
            start=lambda _, method: prepare_form(_placeholder(SOURCES[method])),
            summary="Raw logs in, a dataset out.",
            things={"method": None, "inputs": "uploads"},
            optional=("inputs",),
        ),
        "size": _Outline(
            start=lambda *_: size_form(),
            summary="Decide how wide every embedding table is, under a budget in bytes.",
            things={"data": "datasets", "budget": None},
            optional=("budget",),
        ),
        "search": _Outline(
            start=search_form,
            summary="Find the width of every table by training.",
            things={"method": None, "preset": None, "data": "datasets", "budget": None},
            optional=("budget",),
        ),
        "train": _Outline(
            start=lambda preset, _: train_form(preset),
            summary="Train one model on one dataset with one sizing plan.",
            things={"preset": None, "data": "datasets", "sizing": "sizings"},
        ),
        "evaluate": _Outline(
            start=lambda *_: evaluate_form(),
            summary="Score a run's checkpoint on a split.",
            things={"run": "runs", "data": "datasets"},
            optional=("data",),
        ),
        "export": _Outline(
            start=lambda *_: export_form(),
            summary="Make an artifact of a run, which scores raw rows without the training stack.",
            things={"run": "runs", "data": "datasets"},
            optional=("data",),
        ),
        "compare": _Outline(
            start=lambda *_: compare_form(),
            summary="Train sizings x budgets x seeds, and draw quality against bytes.",
            things={"data": "datasets", "spec": None},
        ),
    }
)


def describe(
    verb: Verb, schedulers: list[str], preset: str | None = None, method: str | None = None
) -> JobForm:
    """The form of a verb, with the defaults of a preset and the options of a method.

    Raises:
        ApiError: If there is no such preset or method.
    """
    outline = _OUTLINES[verb]
    known = {"preset": PRESETS, "method": SOURCES if verb == "prepare" else METHODS}
    chosen = {
        name: _chosen(name, value, known[name])
        for name, value in (("preset", preset), ("method", method))
    }
    meanings = _meanings(JobRequest)
    things = [
        Asked(
            name=name,
            type="json" if name == "spec" else "text",
            default=chosen.get(name),
            choices=_summaries(known[name]) if name in known else None,
            among=among,
            is_list=name == "inputs",
            is_required=name not in outline.optional,
            help=_for_any_verb(meanings[name]),
        )
        for name, among in outline.things.items()
    ]
    return JobForm(
        verb=verb,
        summary=outline.summary,
        things=things,
        options=_options(verb, chosen["preset"], chosen["method"]),
        schedulers=schedulers,
    )


@cache
def _options(verb: Verb, preset: str, method: str) -> list[Asked]:
    return options_of(_OUTLINES[verb].start(preset, method))


def _for_any_verb(text: str) -> str:
    """What a field means, without the verbs that have it: a form is of one of them."""
    short = re.sub(r"^Of [^:]*: ", "", text)
    return short[0].upper() + short[1:]


def _chosen(name: str, value: str | None, known: Mapping[str, Any]) -> str:
    if value is not None and value not in known:
        raise ApiError(422, f"{name}: expected one of {', '.join(known)}")
    return value or next(iter(known))


def _summaries(known: Mapping[str, Any]) -> list[Choice]:
    return [Choice(name=name, summary=_summary(thing)) for name, thing in known.items()]


def options_of(form: Form) -> list[Asked]:
    """Every option that a request may give, in the order of the command line's help."""
    found: dict[str, Asked] = {}
    for part in (form.start, *(getattr(form.start, name) for name in form.within)):
        for prefix, owner in _parts(part, form.within):
            meanings = _meanings(type(owner))
            for name, hint in get_type_hints(type(owner)).items():
                is_taken = {name, prefix.removesuffix(".")} & form.taken
                if is_taken or not _is_flag(owner, name, hint, form.within):
                    continue
                option = _option(form, owner, name, hint)
                flag = f"{prefix}{name}".replace("_", "-")
                found.setdefault(flag, replace(option, name=flag, help=meanings.get(name, "")))
    return list(found.values())


def _parts(part: Any, within: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Dataclasses whose fields are flags, with what comes before these."""
    yield "", part
    for each in fields(part):
        value = getattr(part, each.name, None)
        if is_dataclass(value) and each.name not in within:
            yield f"{each.name}.", value


def _is_flag(owner: Any, name: str, hint: Any, within: Sequence[str]) -> bool:
    is_field = name in {each.name for each in fields(owner)} - {"kind", *within}
    is_thing = name in REFERENCES or not names_path(hint)
    return is_field and is_thing and not is_dataclass(getattr(owner, name, None))


def _option(form: Form, owner: Any, name: str, hint: Any) -> Asked:
    default = getattr(owner, name, None)
    allowed = form.choices.get(name) or _literals(hint)
    return Asked(
        name=name,
        type=_type(hint),
        default=None if isinstance(default, PurePath) else _plain(default),
        choices=[Choice(name=str(value)) for value in allowed] or None,
        among=REFERENCES.get(name),
    )


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _alternatives(hint: Any) -> list[Any]:
    """The types that a hint allows, None and annotations left out."""
    if get_origin(hint) is Annotated:
        return _alternatives(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [kind for part in get_args(hint) for kind in _alternatives(part)]
    return [] if hint is types.NoneType else [hint]


def _literals(hint: Any) -> list[Any]:
    """All values of a hint that lists them."""
    kinds = _alternatives(hint)
    if not all(get_origin(kind) is Literal for kind in kinds):
        return []
    return [value for kind in kinds for value in get_args(kind)]


def _type(hint: Any) -> Type:
    kinds = {type(value) for value in _literals(hint)} or set(_alternatives(hint))
    plain = {get_origin(kind) or kind for kind in kinds}
    names: Mapping[type, Type] = {bool: "boolean", int: "integer", float: "number", str: "text"}
    for kind, name in names.items():
        if plain == {kind}:
            return name
    if plain <= {int, float}:
        return "number"
    if any(isinstance(kind, type) and issubclass(kind, Mapping) for kind in plain):
        return "mapping"
    is_list = any(isinstance(kind, type) and issubclass(kind, tuple | list) for kind in plain)
    return "list" if is_list else "text"


def _meanings(owner: Any) -> Mapping[str, str]:
    """The string under every field of a dataclass, as the command line's help has it."""
    if not hasattr(owner, "__dataclass_fields__"):
        return {}
    inherited = {name: text for base in owner.__bases__ for name, text in _meanings(base).items()}
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    found = inherited
    for field_, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field_, ast.AnnAssign) and isinstance(field_.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[field_.target.id] = " ".join(text.value.replace("``", "`").split())
    return found
