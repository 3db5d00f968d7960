"""Which turns the vectors of a run need to fit another plan."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from torch import Tensor

from models.base import CtrModel
from models.networks import PAIRWISE
from models.sizing.spectral import Floats
from service.resize.tables import Tables
from service.resize.turns import Turn, Widths, aligned_turns, own_turns

Moment = Callable[[str], Floats]


def choose_turns(tables: Tables, network: CtrModel) -> dict[str, Turn]:
    """Turns of the fields that run and plan both have.

    Args:
        tables: The tables of both.
        network: The network of the new plan.
    """
    old, plan = tables.old, tables.plan
    targets = {table.field: plan.target_dim(table) for table in tables.tables}
    before = {name: old.field_dims[name] for name in targets if name in tables.ids}
    after = {name: targets[name] for name in before}
    if plan.join == "concatenate":
        narrowed = [name for name, width in before.items() if after[name] < width]
        return own_turns(
            Widths(before=before, after=after),
            _moments(tables, narrowed),
            _readers(old.dense(), network, old.field_dims) if narrowed else {},
            is_turnable=network.is_turnable,
        )
    width = next(iter(before.values()))
    edges, cuts = _padded_cuts(tables) if plan.join == "pad" else ([], [])
    is_cut = min([*after.values(), *cuts]) < width
    return aligned_turns(
        Widths(
            before=before,
            after=after,
            edges=edges,
            cuts=cuts,
            fixed=int(old.has_bias_column),
        ),
        _moments(tables, before if is_cut else ()),
        is_turnable=network.is_turnable,
        is_pair=old.config.network.kind in PAIRWISE and len(before) == 2,
    )


def _moments(tables: Tables, names: Iterable[str]) -> dict[str, Floats]:
    return {name: tables.field_moment(name) for name in names}


def _padded_cuts(tables: Tables) -> tuple[list[int], list[int]]:
    """Widths that old tables reach to, and those that new ones cut them at."""
    edges = {tables.reach(table) for table in tables.old.plan.tables()}
    cuts = {
        table.embedding_dim
        for table in tables.tables
        for source in tables.sources(table)
        if tables.reach(source) > table.embedding_dim
    }
    return sorted(edges), sorted(cuts)


def _readers(
    layers: Mapping[str, Tensor], network: CtrModel, widths: Mapping[str, int]
) -> dict[str, Floats]:
    """By field, second moment of all weights that read it."""
    starts = dict(zip(widths, np.cumsum([0, *widths.values()])[:-1], strict=True))
    readers = {name: np.zeros((width, width)) for name, width in widths.items()}
    for key, axes in network.axes().items():
        if "fields" not in axes or f"network.{key}" not in layers:
            continue
        layer = layers[f"network.{key}"].double().numpy()
        whole = np.moveaxis(layer, axes.index("fields"), -1)
        flat = whole.reshape(-1, whole.shape[-1])
        for name, width in widths.items():
            part = flat[:, starts[name] : starts[name] + width]
            readers[name] += part.T @ part
    return readers
