"""All tensors of a resized checkpoint: what each is called, and how it is made."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.tables import SparseOptimizer
from service.resize.layers import converted, converted_moment
from service.resize.plan import Resize
from service.resize.rows import ROWWISE, WEIGHT, Rows
from service.resize.tables import TableChange
from service.resize.writer import Entry
from service.train.initialise import starting_bounds
from service.warm_up import EMBEDDINGS, TABLES, Vectors, projection_slots

STATES: Final[Mapping[SparseOptimizer, tuple[str, ...]]] = MappingProxyType(
    {
        "sgd": (),
        "rowwise_adagrad": (ROWWISE,),
        "adagrad": ("sum",),
        "adam": ("exp_avg", "exp_avg_sq"),
        "amsgrad": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    }
)
"""What every optimizer keeps of a table, beside the number of its step."""

MOMENTS: Final = ("exp_avg", "exp_avg_sq")
"""What Adam keeps of every other weight."""


def entries(resize: Resize) -> Iterator[Entry]:
    """Every tensor of the new checkpoint."""
    config, stored = resize.config, resize.old.stored
    bounds = starting_bounds(resize.plan, config.table_init, config.table_init_rows)
    rows = Rows(stored, resize.ids, resize.counts, seed=config.seed, bounds=bounds)
    for change in resize.tables:
        yield from _table(resize, rows, change)
    yield from _projections(resize)
    for name in resize.axes:
        yield from _layer(resize, name)
    yield _whole(("model", "constant"), stored.read("model.constant"))


def _table(resize: Resize, rows: Rows, change: TableChange) -> Iterator[Entry]:
    table, key = change.table, f"{TABLES}{change.table.name}.weight".removeprefix("model.")
    shape = table.stored.num_embeddings, table.stored.embedding_dim
    make = partial(rows.make, change)
    is_whole = bool(table.hashed_ids) and not change.is_same
    yield Entry(path=("model", key), shape=shape, make=partial(make, WEIGHT), is_whole=is_whole)
    for kind in STATES[resize.config.optimizer.sparse]:
        is_rowwise = kind == ROWWISE
        size = (shape[0], 1) if is_rowwise else shape
        yield Entry(
            path=("optimizer", "state", key, "sum" if is_rowwise else kind),
            shape=size,
            make=partial(make, kind) if resize.carries_state else _zeros(size),
            is_whole=is_whole and resize.carries_state,
        )
    if "exp_avg" in STATES[resize.config.optimizer.sparse]:
        yield _step(resize, key)


def _step(resize: Resize, key: str) -> Entry:
    """Adam's own step: the run's, for new tables too, whose moments then start small."""
    path = ("optimizer", "state", key, "step")
    return _whole(path, np.array(resize.progress.step, dtype=np.float32))


def _projections(resize: Resize) -> Iterator[Entry]:
    """Projections of one shape are one weight, of one table a slot."""
    of_weight: dict[int, list[TableChange]] = {}
    changes = {change.table.name: change for change in resize.tables}
    for name, (index, _) in projection_slots(resize.plan).items():
        of_weight.setdefault(index, []).append(changes[name])
    for index, slots in of_weight.items():
        key = f"{EMBEDDINGS}unify.projections.{index}".removeprefix("model.")
        projections = [change.projection for change in slots if change.projection is not None]
        yield _whole(("model", key), np.stack(projections).astype(np.float32))
        for moment in MOMENTS:
            whole = np.stack([_kept_moment(resize, change, moment) for change in slots])
            yield _whole(("optimizer", "state", key, moment), whole)
        yield _step(resize, key)


def _kept_moment(resize: Resize, change: TableChange, moment: str) -> Vectors:
    """Adam's moment of a projection: of the axes that stay; zero for those that are new."""
    assert change.projection is not None
    values = np.zeros(change.projection.shape, dtype=np.float32)
    if change.kept_axes:
        index, slot = projection_slots(resize.old.plan)[change.sources[0].table.name]
        key = f"{EMBEDDINGS}unify.projections.{index}".replace("model.", "optimizer.state.", 1)
        held = resize.old.stored.read(f"{key}.{moment}")[slot]
        values[: change.kept_axes, : held.shape[1]] = held
    return values


def _layer(resize: Resize, key: str) -> Iterator[Entry]:
    """A dense weight and its moments."""
    stored, axes, fields = resize.old.stored, resize.axes[key], resize.fields
    start = resize.start[key].numpy()
    weight = converted(stored.read(f"model.{key}"), start, axes, fields, name=key)
    yield _whole(("model", key), weight)
    for moment in MOMENTS:
        old = stored.read(f"optimizer.state.{key}.{moment}")
        squared = moment == "exp_avg_sq"
        values = converted_moment(old, start, axes, fields, name=key, squared=squared)
        yield _whole(("optimizer", "state", key, moment), values)
    yield _step(resize, key)


def _whole(path: tuple[str, ...], values: Vectors) -> Entry:
    """A tensor that is there already."""
    tensor = (
        torch.from_numpy(np.ascontiguousarray(values))
        if values.ndim
        else torch.tensor(float(values))
    )
    return Entry(path=path, shape=tuple(values.shape), make=partial(_taken, tensor))


def _taken(tensor: Tensor, first: int, end: int) -> Tensor:
    return tensor[first:end] if tensor.dim() else tensor


def _zeros(shape: tuple[int, ...]) -> Callable[[int, int], Tensor]:
    return lambda first, end: torch.zeros(end - first, *shape[1:])
