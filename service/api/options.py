"""A job's options, checked against what its verb takes, as the flags that a person would type.

The dataclass that the command line reads is the one that options are laid over, so that a job that
is accepted is not refused later for a flag. Flags that name paths are refused, all but those of
things that the service knows by name.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Final, get_args, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from service.api.errors import ApiError
from service.api.home import Kind
from service.first_fault import first_fault

FLAG: Final = r"^[a-z][a-z0-9_-]{0,39}(\.[a-z][a-z0-9_-]{0,39}){0,3}$"
Flag = Annotated[str, Field(pattern=FLAG)]
Text = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Number = Annotated[int, Field(ge=-(2**53), le=2**53)] | Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | Number | Text
Value = (
    Scalar
    | None
    | Annotated[list[Scalar], Field(max_length=1000)]
    | Annotated[dict[Text, Scalar], Field(max_length=1000)]
)

REFERENCES: Final[Mapping[str, Kind]] = {
    "warm_start": "runs",
    "warm_up": "runs",
    "resume_from": "runs",
    "resume_data": "datasets",
    "schema": "uploads",
    "users": "uploads",
    "items": "uploads",
}
"""Flags that name something of the service."""

Resolve = Callable[[Kind, str], PurePath]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What a verb takes.

    Attributes:
        start: The verb's configuration before any option.
        within: Parts of it whose fields are flags without a prefix, besides its own.
        taken: Flags that the service sets itself.
        choices: Flags of which only some values are allowed.
        can_negate: Whether ``--no-FLAG`` exists.
    """

    start: Any
    within: Sequence[str] = ()
    taken: frozenset[str] = frozenset()
    choices: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    can_negate: bool = True


def lay_over(form: Form, options: Mapping[str, Value], resolve: Resolve) -> tuple[Any, list[str]]:
    """Options as a configuration, and as flags.

    Args:
        form: What the verb takes.
        options: By flag, with or without dashes within.
        resolve: Finds the path of a thing by its name.

    Raises:
        ApiError: If a flag does not exist, is not for requests, or has a value that it cannot have.
    """
    config, flags = form.start, []
    for flag, value in options.items():
        path = _place(form, flag)
        found = _valid(form, flag, path, value, resolve, config)
        try:
            config = _replaced(config, path, found)
        except ValueError as error:
            raise ApiError(422, f"options.{flag}: {error}") from error
        flags += _as_flags(flag, found, can_negate=form.can_negate)
    return config, flags


def _place(form: Form, flag: str) -> tuple[str, ...]:
    """Names that lead to the field of a flag."""
    names = tuple(flag.replace("-", "_").split("."))
    if names[-1] in form.taken or names[0] in form.taken:
        raise ApiError(422, f"options.{flag} is the service's own to set; leave it out")
    for prefix in ((), *((part,) for part in form.within)):
        if _has(form.start, (*prefix, *names)):
            return (*prefix, *names)
    known = sorted(_flags(form))
    close = difflib.get_close_matches(flag, known, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else None
    raise ApiError(422, f"options.{flag} is no flag of this verb", hint)


def _has(config: Any, names: Sequence[str]) -> bool:
    for name in names:
        if name not in _fields(config):
            return False
        config = getattr(config, name, None)
    return not dataclasses.is_dataclass(config)


def _fields(config: Any) -> list[str]:
    if not dataclasses.is_dataclass(config):
        return []
    return [field.name for field in dataclasses.fields(config) if field.name != "kind"]


def _flags(form: Form) -> set[str]:
    flags = set()
    for part in (form.start, *(getattr(form.start, name) for name in form.within)):
        for name in _fields(part):
            inner = getattr(part, name, None)
            nested = {f"{name}.{other}" for other in _fields(inner)}
            flags |= {flag.replace("_", "-") for flag in nested or {name}}
    return flags


def _valid(
    form: Form, flag: str, path: Sequence[str], value: Value, resolve: Resolve, config: Any
) -> Any:
    for name in path[:-1]:
        config = getattr(config, name)
    hint = get_type_hints(type(config), include_extras=True)[path[-1]]
    if (kind := REFERENCES.get(path[-1])) is not None:
        return _resolved(flag, value, kind, resolve)
    if names_path(hint):
        raise ApiError(422, f"options.{flag} names a path; requests name things, never paths")
    allowed = form.choices.get(path[-1])
    if allowed is not None and value not in allowed:
        raise ApiError(422, f"options.{flag}: expected one of {', '.join(allowed)}")
    try:
        found = TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise ApiError(422, f"options.{flag}: {first_fault(error)}") from error
    for part in _parts(found):
        if isinstance(part, float) and not math.isfinite(part):
            raise ApiError(422, f"options.{flag}: {part} is no number that a job can have")
        if isinstance(part, str) and part.startswith("-"):
            raise ApiError(422, f"options.{flag}: a value cannot begin with '-'")
    return found


def _resolved(flag: str, value: Value, kind: Kind, resolve: Resolve) -> PurePath:
    if not isinstance(value, str):
        raise ApiError(422, f"options.{flag}: expected a name among the {kind}")
    return resolve(kind, value)


def names_path(hint: Any) -> bool:
    """Whether a value of this type can be a path."""
    if isinstance(hint, type) and issubclass(hint, PurePath):
        return True
    return any(names_path(part) for part in get_args(hint))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [part for item in value.items() for inner in item for part in _parts(inner)]
    if isinstance(value, list | tuple):
        return [part for inner in value for part in _parts(inner)]
    return [value]


def _replaced(config: Any, path: Sequence[str], value: Any) -> Any:
    name, *rest = path
    if rest:
        value = _replaced(getattr(config, name), rest, value)
    old = get_type_hints(type(config))[name]
    if isinstance(value, PurePath) and old == str | None:
        value = str(value)
    return dataclasses.replace(config, **{name: value})


def _as_flags(flag: str, value: Any, *, can_negate: bool) -> list[str]:
    dashed = f"--{flag.replace('_', '-')}"
    if isinstance(value, bool):
        negated = re.sub(r"([^.]+)$", r"no-\1", dashed[2:])
        return [dashed] if value else [f"--{negated}"] * can_negate
    return [dashed, *(str(part) for part in _parts(value))]
