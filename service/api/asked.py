"""What a request asks for: a verb, the things it reads and writes by name, machines, options."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic_core import to_json

from service.api.home import Name, Upload
from service.api.options import Flag, Text, Value

Verb = Literal["prepare", "size", "search", "train", "evaluate", "export", "compare"]
Label = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Word = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,127}$")]


def _writable(value: dict[str, Any]) -> dict[str, Any]:
    """What can be written as JSON again, by every library and database: not all that is read."""
    to_json(value)  # refuses halves of characters, and what is nested too deeply
    json.dumps(value, allow_nan=False)
    return value


Content = Annotated[dict[str, Any], AfterValidator(_writable)]
"""An object of any form."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A job to run."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    verb: Verb
    """What to do."""

    name: Label | None = None
    """What people call it; verb and preset by default."""

    preset: Label | None = None
    """Of `train` and `search`: what to start from, see GET /api/v1/presets."""

    method: Label | None = None
    """Of `search`: how. Of `prepare`: the form of the raw logs."""

    inputs: Annotated[list[Upload], Field(max_length=100)] = field(default_factory=list)
    """Of `prepare`: raw files below `uploads` of the service's home."""

    data: Name | None = None
    """Dataset that it reads."""

    sizing: Name | None = None
    """Of `train`: sizing plan."""

    run: Name | None = None
    """Of `evaluate` and `export`: which run."""

    output: Name | None = None
    """What it makes: a dataset, sizing, run, artifact or frontier; called like the job by
    default."""

    budget: Annotated[Text, Field(max_length=32)] | None = None
    """Of `size` and `search`: 512MiB, or 4x smaller than uniform."""

    spec: Content | None = None
    """Of `compare`: recipes, sizings, budgets and seeds, as docs/compare.md describes them."""

    options: Annotated[dict[Flag, Value], Field(max_length=64)] = field(default_factory=dict)
    """Further flags of the verb, as `mixdim VERB --help` lists them, without the dashes."""

    scheduler: Word | None = None
    """Where it runs; the service's first by default."""

    image: Word | None = None
    """Container image, for schedulers that use one."""

    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Machines."""

    ranks_per_node: Annotated[int, Field(ge=1, le=64)] = 1
    """Ranks on each machine."""

    host: Word = "cpu-small"
    """Named resources of a machine."""

    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    """Jobs of higher priority start first."""

    max_retries: Annotated[int, Field(ge=0, le=10)] = 0
    """How often it is started again after it has failed."""


_ADAPTER: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)


def as_content(request: JobRequest) -> dict[str, Any]:
    """A request as JSON has it."""
    content: dict[str, Any] = _ADAPTER.dump_python(request, mode="json")
    return content


def digest(request: JobRequest) -> str:
    """What two requests share only if they ask for the same."""
    return hashlib.sha256(_ADAPTER.dump_json(request)).hexdigest()
