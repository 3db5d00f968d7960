"""What jobs read and make: presets, datasets, sizings, runs, frontiers."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict

from service.api import runs
from service.api.asked import Content, Verb
from service.api.errors import ApiError
from service.api.forms import JobForm, describe
from service.api.frontiers import FrontierPoint, points_of_comparison, points_of_runs
from service.api.home import SIZING_FILE, Kind, Name
from service.api.paging import Listed, Page, Wanted
from service.api.records import Record
from service.api.service import Served, Service, Submitter, Viewer
from service.api.states import State
from service.presets import PRESETS
from service.run_folder import RESULT_FILE, RUN_FILE
from service.sizing import read_sizing

router = APIRouter(tags=["things"])

Called = Annotated[Name, Path(description="Name.")]
RunState = State | Literal["unknown"]
UNKNOWN: Final = "unknown"
"""State of a run that no job here made, and that has not ended."""
ARTIFACT_FILE: Final = "artifact.json"
"""What every artifact holds; `service.serving.manifest` says so too, but comes with torch."""
MAX_POINTS = 10_000


class SizingUpload(BaseModel):
    """A sizing plan to keep: a name, and what sizing.json holds."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    sizing: Content


@router.get("/presets")
def presets(_account: Viewer) -> list[dict[str, Any]]:
    """What trainings and searches can start from."""
    return [
        {
            "name": name,
            "summary": (preset.__doc__ or "").splitlines()[0],
            "network": preset().network.kind,
            "kind": "ratings" if preset().l2 else "clicks",
            "options": {
                "batch-size": preset().batch_size,
                "epochs": preset().epochs,
                "max-steps": preset().max_steps,
                "seed": preset().seed,
            },
        }
        for name, preset in PRESETS.items()
    ]


@router.get("/forms/{verb}")
def form(
    service: Served,
    _account: Viewer,
    verb: Verb,
    preset: Annotated[str | None, Query(max_length=64)] = None,
    method: Annotated[str | None, Query(max_length=64)] = None,
) -> JobForm:
    """What a request for a job may say, with the defaults of a preset: for programs that ask."""
    return describe(verb, [*service.launchers], preset, method)


@router.get("/datasets")
def datasets(service: Served, _account: Viewer, wanted: Listed) -> Page:
    """Datasets, by name."""
    return _named(service, "datasets", "dataset.json", wanted)


@router.get("/datasets/{name}")
def dataset(service: Served, _account: Viewer, name: Called) -> dict[str, Any]:
    """A dataset with its fields and splits."""
    return runs.describe_dataset(name, service.home.existing("datasets", name))


@router.get("/datasets/{name}/frontier")
def runs_frontier(service: Served, _account: Viewer, name: Called) -> list[FrontierPoint]:
    """Quality against bytes of all runs on a dataset; seeds of one plan and setting are a point."""
    service.home.existing("datasets", name)
    return points_of_runs(service.home, name)


@router.get("/sizings")
def sizings(service: Served, _account: Viewer, wanted: Listed) -> Page:
    """Sizing plans, by name."""
    return _named(service, "sizings", SIZING_FILE, wanted)


@router.post("/sizings", status_code=201)
def upload_sizing(service: Served, account: Submitter, upload: SizingUpload) -> dict[str, Any]:
    """Keep a sizing plan that was made elsewhere or by hand."""
    folder = service.home.place("sizings", upload.name)
    with TemporaryDirectory(dir=folder.parent, prefix=".") as drafts:
        draft = FilePath(drafts, upload.name)
        draft.mkdir()
        (draft / SIZING_FILE).write_text(json.dumps(upload.sizing))
        try:
            read_sizing(draft / SIZING_FILE)
            draft.rename(folder)
        except ValueError as error:
            said = str(error).replace(str(draft / SIZING_FILE), "sizing")
            raise ApiError(422, said) from error
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise ApiError(409, f"{upload.name!r} is among the sizings already") from error
    service.audit.note(account, "sizings.upload", upload.name)
    return runs.describe_sizing(upload.name, folder / SIZING_FILE)


@router.get("/sizings/{name}")
def sizing(service: Served, _account: Viewer, name: Called) -> dict[str, Any]:
    """A sizing plan: widths, bytes, reasons."""
    return runs.describe_sizing(name, service.home.existing("sizings", name) / SIZING_FILE)


@router.get("/runs")
def all_runs(
    service: Served,
    _account: Viewer,
    wanted: Listed,
    state: Annotated[
        list[RunState] | None, Query(description="Of the jobs that made them.")
    ] = None,
) -> Page:
    """Runs, by name."""
    names = wanted.among(service.home.names("runs", RUN_FILE))
    if state:
        makers = _makers(service, names)
        names = [name for name in names if _state(service, name, makers.get(name)) in state]
    shown, more = wanted.page(names)
    makers = _makers(service, shown)
    items = [_run(service, name, makers.get(name), with_config=False) for name in shown]
    return Page(items=items, next_cursor=more)


@router.get("/runs/{name}")
def run(service: Served, _account: Viewer, name: Called) -> dict[str, Any]:
    """A run: its configuration, scores, bytes, and the job that made it."""
    return _run(service, name, _makers(service, [name]).get(name), with_config=True)


@router.get("/runs/{name}/metrics")
def metrics(
    service: Served,
    _account: Viewer,
    name: Called,
    kind: Literal["train", "validation", "test"] = "train",
    since: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    limit: Annotated[int, Query(ge=1, le=MAX_POINTS)] = MAX_POINTS,
) -> Page:
    """Lines of a run's metrics behind a step."""
    path = service.home.existing("runs", name)
    return Page(items=runs.metrics_of(path, kind, since, limit), next_cursor=None)


@router.get("/runs/{name}/explain")
def explain(service: Served, _account: Viewer, name: Called) -> list[dict[str, Any]]:
    """Every table of a run: what it asked for, what it got, and why."""
    return runs.explain_run(service.home.existing("runs", name))


@router.get("/runs/{name}/placement")
def placement(service: Served, _account: Viewer, name: Called) -> dict[str, Any]:
    """Which rank holds what."""
    return runs.placement_of(service.home.existing("runs", name))


@router.get("/frontiers")
def frontiers(service: Served, _account: Viewer, wanted: Listed) -> Page:
    """Comparisons, by name."""
    return _named(service, "frontiers", "frontier.json", wanted)


@router.get("/frontiers/{name}")
def frontier(service: Served, _account: Viewer, name: Called) -> list[FrontierPoint]:
    """Points of a comparison: quality against bytes."""
    return points_of_comparison(service.home.file("frontiers", name, "frontier.json").parent)


@router.get("/artifacts")
def artifacts(service: Served, _account: Viewer, wanted: Listed) -> Page:
    """Exported models, by name."""
    return _named(service, "artifacts", ARTIFACT_FILE, wanted)


def _named(service: Service, kind: Kind, marker: str, wanted: Wanted) -> Page:
    shown, more = wanted.page(service.home.names(kind, marker))
    return Page(items=[{"name": name} for name in shown], next_cursor=more)


def _makers(service: Service, names: Sequence[str]) -> dict[str, Record]:
    """The jobs that made runs, by the runs' names."""
    found = service.jobs.makers([f"runs/{name}" for name in names])
    return {folder.removeprefix("runs/"): job for folder, job in found.items()}


def _state(service: Service, name: str, maker: Record | None) -> str:
    """Of the job that made a run; of one that came otherwise, whether it has ended."""
    if maker is not None:
        return maker.state.value
    has_ended = bool(runs.read_json(service.home.place("runs", name) / RESULT_FILE))
    return State.SUCCEEDED.value if has_ended else UNKNOWN


def _run(service: Service, name: str, maker: Record | None, *, with_config: bool) -> dict[str, Any]:
    path = service.home.existing("runs", name)
    return runs.describe_run(name, path, with_config=with_config) | {
        "state": _state(service, name, maker),
        "preset": maker.request.get("preset") if maker else None,
        "job": maker.id if maker else None,
        "owner": maker.owner if maker else None,
    }
