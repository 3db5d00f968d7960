"""From a request to a job: what each verb is given, what it makes, and what it may be told."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from models.networks import NETWORKS
from models.sizing import SIZING
from models.sizing.budget import parse_budget
from service.api.asked import JobRequest
from service.api.comparison import keep
from service.api.errors import ApiError
from service.api.home import SIZING_FILE, Home, Kind
from service.api.options import Form, lay_over
from service.commands.compare import CompareCommand
from service.commands.evaluate import EvaluateCommand
from service.commands.size import SizeCommand
from service.data.ingest.options import PrepareConfig
from service.data.readers.sources import Source
from service.export.config import ExportConfig
from service.presets import PRESETS
from service.search.config import SET_BY_SEARCH, SearchConfig
from service.search.methods import METHODS
from sharding.cluster import CLUSTERS

SOURCES: Final[Mapping[str, Any]] = {
    kind.name: kind for kind in (getattr(s, "__origin__", s) for s in get_args(Source))
}
OWN: Final = frozenset({"data", "output", "json", "dry_run", "nproc", "budget", "plan", "raw"})
"""Flags that are set for a job, or have no meaning for one."""
OF_RANKS: Final = OWN | {"sizing", "metrics_port", "metrics_host"}
MAX_UNIFORM_BYTES: Final = 1 << 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A request that is in order, as a command line."""

    arguments: Sequence[str]
    folder: tuple[Kind, str] | None = None
    """What it makes."""
    serves_metrics: bool = False


def plan(request: JobRequest, home: Home, name: str) -> Plan:
    """Check a request as its verb would, and say what to run.

    Args:
        request: What is asked.
        home: Where names lead.
        name: What the job is called; names its output where the request does not.

    Raises:
        ApiError: If the verb would refuse it.
    """
    try:
        return _PLANS[request.verb](request, home, request.output or name)
    except ValueError as error:
        raise ApiError(422, str(error)) from error


def prepare_form(source: Any) -> Form:
    """What `prepare` takes of a source's raw logs."""
    return Form(
        start=PrepareConfig(source=source),
        within=("source",),
        taken=OWN | {"inputs", "ratings"},
        can_negate=False,
    )


def size_form(data: Path = Path()) -> Form:
    """What `size` takes."""
    choices = {"cluster": [*CLUSTERS], "scheme": [*SIZING], "model": [*NETWORKS]}
    return Form(start=SizeCommand(data=data), taken=OWN, choices=choices)


def search_form(preset: str, method: str) -> Form:
    """What a method of `search` takes."""
    start = SearchConfig(train=PRESETS[preset](), method=METHODS[method]())
    taken = (OF_RANKS | {*SET_BY_SEARCH}) - {"embeddings"}
    return Form(start=start, within=("train",), taken=taken)


def train_form(preset: str) -> Form:
    """What `train` takes from a preset on."""
    return Form(start=PRESETS[preset](), taken=OF_RANKS)


def evaluate_form(run: Path = Path()) -> Form:
    """What `evaluate` takes."""
    return Form(start=EvaluateCommand(run=run), taken=OWN | {"run"})


def export_form(run: Path = Path()) -> Form:
    """What `export` takes."""
    return Form(start=ExportConfig(run=run, output=Path()), taken=OWN | {"run"})


def compare_form(spec: Path = Path()) -> Form:
    """What `compare` takes besides its specification."""
    taken = OWN | {"spec", "parallel", "plot_only"}
    return Form(start=CompareCommand(spec=spec), taken=taken)


def _prepare(request: JobRequest, home: Home, output: str) -> Plan:
    _only(request, "method", "inputs")
    method = _one_of(request, "method", SOURCES)
    source, first = _source(request, home)
    form = prepare_form(source)
    if method == "table" and "schema" not in request.options:
        raise ApiError(422, "options.schema: expected the name of a schema among the uploads")
    _, flags = lay_over(form, request.options, home.existing)
    path = home.place("datasets", output)
    arguments = [method, *first, "--output", str(path), *flags]
    return Plan(arguments=arguments, folder=("datasets", output))


def _source(request: JobRequest, home: Home) -> tuple[Any, list[str]]:
    """The source of raw logs, and the arguments that name its files."""
    kind = SOURCES[str(request.method)]
    paths = tuple(home.existing("uploads", name) for name in request.inputs)
    names = {field.name for field in dataclasses.fields(kind)} & {"inputs", "ratings"}
    if bool(names) != bool(paths) or (names == {"ratings"} and len(paths) != 1):
        expected = {"inputs": "at least one file", "ratings": "one file"}
        wanted = expected[names.pop()] if names else "none"
        raise ApiError(422, f"inputs: {len(paths)} files for {request.method}, expected {wanted}")
    values: dict[str, Any] = {name: paths if name == "inputs" else paths[0] for name in names}
    if request.method == "table":
        values["schema"] = Path()
    return kind(**values), [str(path) for path in paths]


def _size(request: JobRequest, home: Home, output: str) -> Plan:
    _only(request, "data", "budget")
    data = home.existing("datasets", _given(request, "data"))
    form = size_form(data)
    command, flags = lay_over(form, request.options, home.existing)
    command.request()
    path = home.place("sizings", output) / SIZING_FILE
    arguments = [str(data), *_budget(request), "--output", str(path), *flags]
    return Plan(arguments=arguments, folder=("sizings", output))


def _search(request: JobRequest, home: Home, output: str) -> Plan:
    _only(request, "data", "budget", "preset", "method")
    method = _one_of(request, "method", METHODS)
    preset = _one_of(request, "preset", PRESETS)
    data = home.existing("datasets", _given(request, "data"))
    form = search_form(preset, method)
    _, flags = lay_over(form, request.options, home.existing)
    path = home.place("sizings", output)
    things = ["--data", str(data), *_budget(request), "--output", str(path)]
    return Plan(
        arguments=[method, preset, *things, *flags, *_resumed(request)],
        folder=("sizings", output),
        serves_metrics=True,
    )


def _train(request: JobRequest, home: Home, output: str) -> Plan:
    _only(request, "data", "sizing", "preset")
    preset = _one_of(request, "preset", PRESETS)
    data = home.existing("datasets", _given(request, "data"))
    sizing = home.existing("sizings", _given(request, "sizing")) / SIZING_FILE
    form = train_form(preset)
    _, flags = lay_over(form, request.options, home.existing)
    path = home.place("runs", output)
    things = ["--data", str(data), "--sizing", str(sizing), "--output", str(path)]
    return Plan(
        arguments=[preset, *things, *flags, *_resumed(request)],
        folder=("runs", output),
        serves_metrics=True,
    )


def _evaluate(request: JobRequest, home: Home, _output: str) -> Plan:
    _only(request, "run", "data")
    run = home.existing("runs", _given(request, "run"))
    form = evaluate_form(run)
    _, flags = lay_over(form, request.options, home.existing)
    data = ["--data", str(home.existing("datasets", request.data))] if request.data else []
    return Plan(arguments=[str(run), *data, *flags])


def _export(request: JobRequest, home: Home, output: str) -> Plan:
    _only(request, "run", "data")
    run = home.existing("runs", _given(request, "run"))
    _, flags = lay_over(export_form(run), request.options, home.existing)
    data = ["--data", str(home.existing("datasets", request.data))] if request.data else []
    path = home.place("artifacts", output)
    arguments = [str(run), *data, "--output", str(path), *flags]
    return Plan(arguments=arguments, folder=("artifacts", output))


def _compare(request: JobRequest, home: Home, output: str) -> Plan:
    _only(request, "data", "spec")
    data = home.existing("datasets", _given(request, "data"))
    if request.spec is None:
        raise ApiError(422, "spec: compare needs one; docs/compare.md shows what to write")
    spec = keep(request.spec, home)
    _, flags = lay_over(compare_form(spec), request.options, home.existing)
    things = ["--data", str(data), "--output", str(home.place("frontiers", output))]
    parallel = ["--parallel", str(request.ranks_per_node)]
    return Plan(arguments=[str(spec), *things, *parallel, *flags], folder=("frontiers", output))


_PLANS: Final = {
    "prepare": _prepare,
    "size": _size,
    "search": _search,
    "train": _train,
    "evaluate": _evaluate,
    "export": _export,
    "compare": _compare,
}
_THINGS: Final = ("preset", "method", "inputs", "data", "sizing", "run", "budget", "spec")


def _only(request: JobRequest, *names: str) -> None:
    for name in _THINGS:
        if getattr(request, name) and name not in names:
            raise ApiError(422, f"{name}: {request.verb} has no use for it; leave it out")


def _given(request: JobRequest, name: str) -> str:
    if not (value := getattr(request, name)):
        raise ApiError(422, f"{name}: {request.verb} needs one; name it")
    return str(value)


def _one_of(request: JobRequest, name: str, known: Iterable[str]) -> str:
    if (value := getattr(request, name)) not in known:
        raise ApiError(422, f"{name}: expected one of {', '.join(known)}")
    return str(value)


def _budget(request: JobRequest) -> list[str]:
    if request.budget is None:
        return []
    if request.budget != "none":
        parse_budget(request.budget, MAX_UNIFORM_BYTES)
    return ["--budget", request.budget]


def _resumed(request: JobRequest) -> list[str]:
    """A job that is started again goes on with its own run."""
    is_said = {"resume", "overwrite"} & request.options.keys()
    return ["--resume"] if request.max_retries and not is_said else []
