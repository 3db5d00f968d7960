"""What a checkpoint becomes under another sizing plan, before anything is written."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.base import Axis, CtrModel
from models.sizing.spectral import Floats
from models.tables import SizingPlan, Table
from service.checkpoint import Progress, last_checkpoint, read_progress
from service.config import TrainConfig
from service.data.dataset import DatasetInfo
from service.data.lookups import lookups_per_id
from service.resize.choose import choose_turns
from service.resize.layers import Fields
from service.resize.tables import TableChange, Tables
from service.resize.turns import Turn
from service.run_folder import RunFolder
from service.train.engine import build_task
from service.vocabulary_change import IdChange, id_changes
from service.warm_up import WarmUp, projection_slots


@dataclass(frozen=True, kw_only=True, slots=True)
class Resize:
    """A run's last checkpoint, and what each part of it becomes."""

    config: TrainConfig
    """The run that goes on."""
    plan: SizingPlan
    old: WarmUp
    progress: Progress
    """Where the run goes on."""
    ids: Mapping[str, IdChange]
    """What became of the ids of every field that both have."""
    tables: tuple[TableChange, ...]
    fields: Fields
    axes: Mapping[str, tuple[Axis, ...]]
    """By name, axes of every dense weight."""
    start: Mapping[str, Tensor]
    """Dense weights of a new run."""
    counts: Callable[[str], Floats]
    is_other_data: bool
    """Whether the run goes on with another dataset."""

    @property
    def carries_state(self) -> bool:
        """Whether the tables' optimizer is what it was."""
        return self.config.optimizer.sparse == self.old.config.optimizer.sparse

    @property
    def turns(self) -> Mapping[str, Turn]:
        """How the vectors of every field that both have change."""
        return self.fields.turns


def plan_resize(config: TrainConfig, info: DatasetInfo, plan: SizingPlan) -> Resize:
    """Compare the run ``config.resume_from`` with what it is to go on as.

    Reads what it has to of the run's tables; writes nothing.

    Args:
        config: The run that goes on.
        info: Its dataset.
        plan: Its tables, with the join of its network.

    Raises:
        FileNotFoundError: If there is no such run, or it has no checkpoint.
        ValueError: If its network or dataset is not what the run can go on with.
    """
    old = _opened(config)
    progress = read_progress(old.checkpoint)
    ids = _same_ids(config, plan, old, progress)
    torch.manual_seed(config.seed)
    task = build_task(config, info, plan, device=torch.device("cpu"), tables_on="meta")
    start = task.state_dict()
    counts = partial(_counts, config.data)
    tables = Tables(old, plan, ids, counts)
    turns = choose_turns(tables, task.network)
    changes = [
        tables.change(table, turns.get(table.field), _start_of(table, plan, start))
        for table in tables.tables
    ]
    dense = {
        name: weight
        for name, weight in start.items()
        if name.startswith("network.") and not name.startswith("network.embeddings.")
    }
    is_other_data = progress.order["data_sha256"] != info.content_sha256
    return Resize(
        config=config,
        plan=plan,
        old=old,
        progress=_progress(progress, info),
        ids=ids,
        tables=tuple(changes if dense else _moving(changes, turns)),
        fields=Fields(
            old=old.field_dims,
            new={table.field: plan.target_dim(table) for table in tables.tables},
            turns=turns,
        ),
        axes=_axes(task.network, dense),
        start=dense,
        counts=counts,
        is_other_data=is_other_data,
    )


def _axes(network: CtrModel, dense: Mapping[str, Tensor]) -> dict[str, tuple[Axis, ...]]:
    given = {f"network.{name}": axes for name, axes in network.axes().items()}
    plain: Axis = "plain"
    return {name: given.get(name, (plain,) * weight.dim()) for name, weight in dense.items()}


def _opened(config: TrainConfig) -> WarmUp:
    """The run at its last checkpoint."""
    assert config.resume_from is not None
    run = RunFolder(config.resume_from)
    run.read_run()  # says that there is none, where there is none
    checkpoint = last_checkpoint(run.checkpoints)
    if checkpoint is None:
        raise FileNotFoundError(
            f"{run.checkpoints} holds no finished checkpoint; train with `mixdim train`"
        )
    old = WarmUp(config.resume_from, checkpoint)
    _check_same_network(config, old)
    return old


def _same_ids(
    config: TrainConfig, plan: SizingPlan, old: WarmUp, progress: Progress
) -> dict[str, IdChange]:
    shared = [name for name in plan.fields if name in old.plan.fields]
    if not shared:
        raise ValueError(
            f"run {old.folder} has the fields {list(old.plan.fields)}, the sizing plan has "
            f"{list(plan.fields)}: none in common; give a plan with at least one of them"
        )
    data = config.resume_data or old.config.data
    ids = id_changes(data, config.data, shared, old_sha256=progress.order["data_sha256"])
    for name, change in ids.items():
        known = sum(block.num_ids for block in old.plan.fields[name])
        if change.is_same and change.num_ids != known:
            raise ValueError(
                f"field {name!r}: run {old.folder} knows {known} ids, its dataset {data} has "
                f"{change.num_ids}; name the dataset it was trained on: --resume-data FOLDER"
            )
    return ids


def _start_of(table: Table, plan: SizingPlan, start: Mapping[str, Tensor]) -> Floats | None:
    """How the projection of a table starts in a new run."""
    if table.name not in (slots := projection_slots(plan)):
        return None
    index, slot = slots[table.name]
    weight = start[f"network.embeddings.unify.projections.{index}"][slot]
    return weight.double().numpy()


def _moving(changes: list[TableChange], turns: Mapping[str, Turn]) -> list[TableChange]:
    """Let one field start as a new one in columns that all fields are new in.

    Where dots are all there is, columns that are zero in both fields would never move.
    """
    for change in changes:
        turn = turns.get(change.table.field)
        if turn is None or change.table.embedding_dim <= turn.ahead.shape[0]:
            continue
        first = change.table.field
        return [
            replace(each, fresh_from=turn.ahead.shape[0])
            if each.table.field == first and each.table.embedding_dim > turn.ahead.shape[0]
            else each
            for each in changes
        ]
    return changes


def _check_same_network(config: TrainConfig, old: WarmUp) -> None:
    before, now = asdict(old.config.network), asdict(config.network)
    different = [
        name for name in ("kind", *now) if name != "join" and before.get(name) != now.get(name)
    ]
    if different:
        name = different[0]
        raise ValueError(
            f"run {old.folder} has network.{name}={before.get(name)}, this one has "
            f"{now.get(name)}; only tables can be resized: give the same network"
        )
    if config.pooling != old.config.pooling:
        raise ValueError(
            f"run {old.folder} has pooling={old.config.pooling}, this one has {config.pooling}, "
            f"under which its vectors mean something else; give --pooling {old.config.pooling}"
        )


def _progress(progress: Progress, info: DatasetInfo) -> Progress:
    """Where the run goes on: its best score was another model's, which is not at hand."""
    anew = replace(
        progress,
        best_score=float("-inf"),
        best_step=-1,
        num_worse=0,
        validated_step=-1,
        scheduler={},
    )
    if progress.order["data_sha256"] == info.content_sha256:
        return anew
    return replace(anew, batch=0, order={**progress.order, "data_sha256": info.content_sha256})


@lru_cache(maxsize=1)
def _counts(data: Path, field: str) -> Floats:
    """Training lookups of every id of a field."""
    if not (data / "vocab" / f"{field}.parquet").is_file():
        raise FileNotFoundError(
            f"{data} holds no vocab/{field}.parquet, whose counts say which of the field's "
            f"vectors matter most when its tables get narrower; prepare the dataset again"
        )
    return lookups_per_id(data, field).astype(np.float64)
