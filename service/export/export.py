"""``export``: a run's checkpoint as an artifact that is let through by its scores."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from models.embeddings.coded import DPQChoice, MGQEChoice
from models.layout import Layout
from models.sizing import Serving
from models.tables import SizingPlan, Table
from service.checkpoint import StoredTensors, best_checkpoint, last_checkpoint
from service.config import TrainConfig
from service.data.dataset import DatasetInfo, FieldInfo, read_dataset_info
from service.data.ingest.staging import check_output, staged_folder
from service.export.card import write_card
from service.export.config import ExportConfig
from service.export.gate import check, measure
from service.export.onnx import write_onnx
from service.export.program import PooledFields, ServedModel, to_program
from service.export.tables import folded, write_tables
from service.export.vocabularies import write_raw_form, write_vocabularies
from service.export_codes import export_codes
from service.run_folder import SIZING_FILE, RunFolder, git_commit, package_versions
from service.serving import Artifact
from service.serving.manifest import (
    CODES_FOLDER,
    MANIFEST_FILE,
    PROGRAM_FILE,
    Gate,
    Manifest,
    Origin,
    Projections,
    ServedField,
    describe_files,
    write_manifest,
)
from service.sizing import read_sizing
from service.train.engine import build_task
from service.train.evaluate_run import EvaluateConfig, EvaluateResult, evaluate_run
from service.warm_up import PROJECTIONS, TABLES, projection_slots

logger = logging.getLogger(__name__)

SERVED_KINDS = ("mixed", "pruned", "quotient_remainder", "dpq", "mgqe")
"""Embeddings that are exported; the others are nets that a search chooses from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A run, as far as its artifact is made of it."""

    config: TrainConfig
    data: Path
    info: DatasetInfo
    plan: SizingPlan
    layout: Layout
    checkpoint: Path
    stored: StoredTensors

    @property
    def is_coded(self) -> bool:
        """Whether rows are codes."""
        return isinstance(self.config.embeddings, DPQChoice | MGQEChoice)

    @property
    def fields(self) -> list[FieldInfo]:
        """The fields of the plan."""
        by_name = {field.stats.name: field for field in self.info.fields}
        return [by_name[name] for name in self.plan.fields]

    def projections(self) -> dict[str, Tensor]:
        """What the rows of narrow tables are multiplied with ``(d, D_f)``, by table."""
        if self.config.embeddings.kind not in {"mixed", "pruned"}:
            return {}
        return {
            name: torch.from_numpy(self.stored.read(f"{PROJECTIONS}{index}")[slot].copy())
            for name, (index, slot) in projection_slots(self.plan).items()
        }


def export(config: ExportConfig) -> Manifest:
    """Make an artifact.

    Args:
        config: What to make of which run.

    Returns:
        What was made; also in ``artifact.json``.

    Raises:
        FileNotFoundError: If there is no run, no checkpoint, no dataset or no vocabulary.
        FileExistsError: If there is something where the artifact is to be.
        GateError: If the artifact scores otherwise than the run.
        ValueError: If tables of the run cannot be stored in the dtype.
    """
    check_output(config.output, overwrite=config.overwrite, mark=MANIFEST_FILE)
    source = _open(config)
    own = evaluate_run(
        EvaluateConfig(
            run=config.run,
            data=config.data,
            split=config.split,
            checkpoint=config.checkpoint,
            device="cpu",
        )
    )
    with staged_folder(config.output, overwrite=config.overwrite, mark=MANIFEST_FILE) as folder:
        manifest = _write(config, source, own, folder)
        gate = measure(
            Artifact(folder, manifest),
            source.data,
            source.info,
            config.split,
            own.scores,
            config.tolerance,
        )
        check(gate, config.dtype)
        manifest = replace(manifest, gate=gate, files=describe_files(folder))
        write_card(manifest, source.config, source.info, folder)
        manifest = replace(manifest, files=describe_files(folder))
        write_manifest(manifest, folder)
    logger.info("exported %s to %s", config.run, config.output)
    return manifest


def _open(config: ExportConfig) -> Source:
    run = RunFolder(config.run)
    trained = run.read_config()
    _check_kind(config, trained)
    data = config.data or trained.data
    info = read_dataset_info(data)
    sizing = read_sizing(config.run / SIZING_FILE)
    sizing.check_against(info)
    plan = replace(sizing.plan, join=trained.network.join)
    Serving(dtype=config.dtype).check(plan)
    find = best_checkpoint if config.checkpoint == "best" else last_checkpoint
    checkpoint = find(run.checkpoints)
    if checkpoint is None:
        raise FileNotFoundError(
            f"{run.checkpoints} holds no finished checkpoint; train with `mixdim train`"
        )
    return Source(
        config=trained,
        data=data,
        info=info,
        plan=plan,
        layout=trained.embeddings.layout(plan),
        checkpoint=checkpoint,
        stored=StoredTensors(checkpoint),
    )


def _check_kind(config: ExportConfig, trained: TrainConfig) -> None:
    kind = trained.embeddings.kind
    if kind not in SERVED_KINDS:
        raise ValueError(
            f"run {config.run} has embeddings of kind {kind!r}, the net that a search chooses "
            f"from; train the plan that the search has found, and export that run"
        )
    if kind in {"dpq", "mgqe"} and config.dtype != "fp32":
        raise ValueError(
            f"dtype={config.dtype!r}, and {config.run} has codes ({kind}), which are a few bits a "
            f"row already; give --dtype fp32"
        )


def _write(config: ExportConfig, source: Source, own: EvaluateResult, folder: Path) -> Manifest:
    """Write everything but what is said of it."""
    projections = source.projections()
    fold = projections if config.fold_projections else {}
    tables = tuple(folded(table, fold) for table in source.layout.tables())
    if source.is_coded:
        export_codes(config.run, folder / CODES_FOLDER, source.checkpoint)
    else:
        trained = list(source.layout.tables())
        write_tables(source.stored, trained, folder, dtype=config.dtype, fold=fold)
    write_vocabularies(source.data, source.fields, folder)
    write_raw_form(source.data, source.info, list(source.plan.fields), folder)
    num_dense, width = len(source.info.dense), sum(table.embedding_dim for table in tables)
    model = _model(source, tables, {} if config.fold_projections else projections)
    program = to_program(model, num_dense=num_dense, width=width)
    torch.export.save(program, folder / PROGRAM_FILE)
    if config.onnx:
        write_onnx(program, folder)
    kept: Projections = "folded" if fold else "kept"
    return Manifest(
        name=config.output.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=source.info.task,
        dtype=config.dtype,
        projections=kept if projections else "none",
        is_coded=source.is_coded,
        num_dense=num_dense,
        fields=tuple(_served(field, source.config.pooling == "mean") for field in source.fields),
        tables=tables,
        gate=Gate(split=config.split, num_rows=0, run=own.scores, artifact={}, tolerances={}),
        origin=_origin(config, source),
        files={},
    )


def _model(
    source: Source, tables: tuple[Table, ...], projections: Mapping[str, Tensor]
) -> ServedModel:
    """The run's network with the weights of the checkpoint."""
    task = build_task(
        source.config, source.info, source.plan, device=torch.device("cpu"), tables_on="meta"
    )
    for name, weight in task.state_dict().items():
        if not f"model.{name}".startswith(TABLES):
            weight.copy_(torch.from_numpy(source.stored.read(f"model.{name}")))
    return ServedModel(task, PooledFields(tables, task.network.embeddings, projections))


def _served(field: FieldInfo, is_mean: bool) -> ServedField:
    return ServedField(
        name=field.stats.name,
        num_ids=field.stats.num_embeddings,
        missing_id=field.missing_id,
        unknown_id=field.unknown_id,
        is_list=field.is_list,
        is_mean=field.is_list and is_mean,
    )


def _origin(config: ExportConfig, source: Source) -> Origin:
    return Origin(
        run=config.run.resolve().name,
        checkpoint=source.checkpoint.name,
        network=source.config.network.kind,
        embeddings=source.config.embeddings.kind,
        data_sha256=source.info.content_sha256,
        git_commit=git_commit(),
        versions=package_versions(),
    )
