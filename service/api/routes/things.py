"""What jobs read and make: presets, datasets, sizings, runs, frontiers."""

import hashlib
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, TypeAdapter

from service.api import runs
from service.api.asked import Verb
from service.api.errors import ApiError
from service.api.forms import JobForm, describe
from service.api.frontiers import FrontierPoint, points_of_comparison, points_of_runs
from service.api.home import SIZING_FILE, Kind, Name
from service.api.jobs import Filter
from service.api.service import Served, Service, Submitter, Viewer
from service.presets import PRESETS
from service.run_folder import RUN_FILE
from service.sizing import read_sizing

router = APIRouter(tags=["things"])

Called = Annotated[Name, Path(description="Name.")]
Limit = Annotated[int, Query(ge=1, le=200)]
MAX_POINTS = 10_000


class Names(BaseModel):
    """Some of the things of a kind, by name."""

    items: list[dict[str, Any]]
    next_cursor: str | None


class SizingUpload(BaseModel):
    """A sizing plan to keep: a name, and what sizing.json holds."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    sizing: dict[str, Any]


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
def datasets(service: Served, _account: Viewer) -> Names:
    """Datasets, by name."""
    return Names(items=_named(service, "datasets", "dataset.json"), next_cursor=None)


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
def sizings(service: Served, _account: Viewer) -> Names:
    """Sizing plans, by name."""
    return Names(items=_named(service, "sizings", SIZING_FILE), next_cursor=None)


@router.post("/sizings", status_code=201)
def upload_sizing(service: Served, account: Submitter, upload: SizingUpload) -> dict[str, Any]:
    """Keep a sizing plan that was made elsewhere or by hand."""
    folder = service.home.place("sizings", upload.name)
    text = TypeAdapter(dict[str, Any]).dump_json(upload.sizing)
    folder.mkdir(exist_ok=True)
    draft = folder / f".{hashlib.sha256(text).hexdigest()[:16]}.draft"
    draft.write_bytes(text)
    try:
        read_sizing(draft)
        if (folder / SIZING_FILE).exists():
            raise ApiError(409, f"{upload.name!r} is among the sizings already")
        draft.rename(folder / SIZING_FILE)
    except ValueError as error:
        raise ApiError(422, str(error).replace(str(draft), "sizing")) from error
    finally:
        draft.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
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
    limit: Limit = 50,
    cursor: Annotated[Name | None, Query()] = None,
) -> Names:
    """Runs, by name."""
    names = [name for name in service.home.names("runs", RUN_FILE) if name > (cursor or "")]
    shown = [_run(service, name, with_config=False) for name in names[:limit]]
    return Names(items=shown, next_cursor=names[limit - 1] if len(names) > limit else None)


@router.get("/runs/{name}")
def run(service: Served, _account: Viewer, name: Called) -> dict[str, Any]:
    """A run: its configuration, scores, bytes, and the job that made it."""
    return _run(service, name, with_config=True)


@router.get("/runs/{name}/metrics")
def metrics(
    service: Served,
    _account: Viewer,
    name: Called,
    kind: Literal["train", "validation", "test"] = "train",
    since: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    limit: Annotated[int, Query(ge=1, le=MAX_POINTS)] = MAX_POINTS,
) -> Names:
    """Lines of a run's metrics behind a step."""
    path = service.home.existing("runs", name)
    return Names(items=runs.metrics_of(path, kind, since, limit), next_cursor=None)


@router.get("/runs/{name}/explain")
def explain(service: Served, _account: Viewer, name: Called) -> list[dict[str, Any]]:
    """Every table of a run: what it asked for, what it got, and why."""
    return runs.explain_run(service.home.existing("runs", name))


@router.get("/runs/{name}/placement")
def placement(service: Served, _account: Viewer, name: Called) -> dict[str, Any]:
    """Which rank holds what."""
    return runs.placement_of(service.home.existing("runs", name))


@router.get("/frontiers")
def frontiers(service: Served, _account: Viewer) -> Names:
    """Comparisons, by name."""
    return Names(items=_named(service, "frontiers", "frontier.json"), next_cursor=None)


@router.get("/frontiers/{name}")
def frontier(service: Served, _account: Viewer, name: Called) -> list[FrontierPoint]:
    """Points of a comparison: quality against bytes."""
    return points_of_comparison(service.home.file("frontiers", name, "frontier.json").parent)


def _named(service: Service, kind: Kind, marker: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in service.home.names(kind, marker)]


def _run(service: Service, name: str, *, with_config: bool) -> dict[str, Any]:
    path = service.home.existing("runs", name)
    made = service.jobs.page(Filter(folders=(f"runs/{name}",)), 1)
    content = runs.describe_run(name, path, with_config=with_config)
    has_ended = content["result"] is not None
    state = made[0].state.value if made else "succeeded" if has_ended else "unknown"
    preset = made[0].request.get("preset") if made else None
    job = made[0].id if made else None
    owner = made[0].owner if made else None
    return content | {"state": state, "preset": preset, "job": job, "owner": owner}
