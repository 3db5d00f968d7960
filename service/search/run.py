"""Run a search from its first stage to the plan, or from wherever it was killed."""

import os
from dataclasses import replace
from functools import partial

from models.embeddings.choices import Embeddings
from service.adapters import adapter_of
from service.compare.figures import figures_of, widths_of
from service.data.dataset import DATASET_FILE
from service.job import REFUSALS
from service.run_folder import DRAFT, RunFolder, file_sha256, git_commit, package_versions
from service.search.config import SearchConfig
from service.search.folder import SearchFolder
from service.search.methods.base import Found, SearchMethod
from service.search.record import (
    EXPORTED,
    RETRAINED,
    SEARCH_FILE,
    SearchRecord,
    cost_of,
    read_record,
    write_record,
)
from service.search.search import Report, Search
from service.search.shared import SharedStages
from service.search.stage import Stage, as_json, read_stage
from service.sizing import write_sizing

SIZING_FILE = "sizing.json"


def search(
    config: SearchConfig, report: Report, shared: SharedStages | None = None
) -> SearchRecord:
    """Search, write ``sizing.json`` and ``search.json``, and train what was found.

    Args:
        config: What is asked.
        report: Is told of every stage as soon as it is finished.
        shared: Trainings that are shared with other searches; none by default.

    Raises:
        FileNotFoundError: If there is no such dataset.
        ValueError: If data, options and model do not fit each other, or the folder is in use.
        PlanError: If no plan fits the budget.
        Stopped: If somebody said stop; the search goes on with ``resume``.
    """
    if "RANK" in os.environ:
        raise ValueError(
            "a search starts the ranks of its trainings itself, and this process was started as "
            "one of several; start it once, with --nproc"
        )
    with RunFolder(config.train.output).held():
        return _search(config, report, shared)


def _search(config: SearchConfig, report: Report, shared: SharedStages | None) -> SearchRecord:
    folder = SearchFolder(config.train.output, overwrites=config.train.overwrite)

    def settled(stage: Stage) -> None:
        folder.settle()
        report(stage)

    under_way = Search(config, settled, shared, begins=lambda: folder.take(record))
    record = SearchRecord(
        status="running",
        asked=config.asked,
        budget_bytes=under_way.budget_bytes,
        data_sha256=file_sha256(config.train.data / DATASET_FILE),
        versions=package_versions(),
        git_commit=git_commit(),
    )
    folder.tidy()
    before = _gone_on_with(config, record, folder)
    if before.status == "done" and (before.run is not None or not config.retrain):
        return before
    try:
        record = _found(record, under_way)
    except REFUSALS:
        folder.give_back()
        raise
    folder.settle()
    write_record(record, config.train.output)
    return record


def _found(record: SearchRecord, under_way: Search) -> SearchRecord:
    """Search, and train what was found."""
    config, folder = under_way.config, under_way.folder
    method: SearchMethod = config.method
    found = method.run(under_way)
    under_way.begin()
    write_sizing(found.sizing, folder / SIZING_FILE)
    result = trained(under_way, found) if config.retrain else None
    if result is not None and found.export is not None:
        under_way.measure(EXPORTED, partial(found.export, result))
    return _done(record, under_way, found, result)


def _gone_on_with(config: SearchConfig, record: SearchRecord, taken: SearchFolder) -> SearchRecord:
    """The record of this very search that the folder holds, or else the new one."""
    folder = config.train.output
    if config.train.overwrite and taken.is_ours:
        return record
    before = read_record(folder)
    if config.train.resume and before is not None:
        config.check_same(before.asked)
        if before.data_sha256 != record.data_sha256:
            raise ValueError(
                f"{config.train.data} is not the dataset that {folder} has searched on; give "
                f"--overwrite or another --output"
            )
        return before
    if any(path.name != f".{SEARCH_FILE}{DRAFT}" for path in folder.iterdir()):
        how = "--resume to go on with the search in it, " if before is not None else ""
        how += "--overwrite to delete it, or " if taken.is_ours else ""
        raise ValueError(f"{folder} is not empty; give {how}another --output")
    return record


def trained(under_way: Search, found: Found) -> Stage:
    """The stage that has trained the plan."""
    if found.run is not None:
        return read_stage(found.run.with_name(f"{found.run.name}.json"))
    changes = {"embeddings": found.embeddings, **found.retrain}
    return under_way.train(RETRAINED, found.sizing, **changes)


def _done(
    record: SearchRecord, under_way: Search, found: Found, trained: Stage | None
) -> SearchRecord:
    return replace(
        record,
        status="done",
        stages=[as_json(stage) for stage in under_way.stages],
        cost=cost_of(under_way.stages, trained),
        widths=widths_of(found.sizing),
        embeddings=adapter_of(Embeddings).dump_python(found.embeddings, mode="json"),
        figures=dict(found.figures) or figures_of(found.sizing, under_way.config.train),
        values={name: dict(of) for name, of in found.values.items()},
        notes=dict(found.notes),
        validation=trained.validation if trained else {},
        test=trained.test if trained else {},
        run=os.path.relpath(trained.folder, under_way.folder) if trained else None,
    )
