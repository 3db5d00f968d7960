"""Start narrow tables and their projections from a wide run's vectors instead of from noise.

A table of width ``k`` starts as ``E @ V_k`` and its projection as ``V_k^T``: of all tables of that
width the one that is nearest to the wide one, id by id, each weighted by its lookups (the truncated
SVD). Behind the projection the vectors are the warm-up's as nearly as ``k`` columns can hold them,
so that its dense layers fit them and are copied too.

Where the fields are to be narrower than the warm-up's *behind* the projection, or padded, they are
first rotated: the two fields of a factorisation so that their dots are kept best, the fields of
other interacting models by one rotation for all, those of concatenating models each by its own.
Layers that read the fields side by side are folded with the rotations; where another layer depends
on the width, all dense layers start anew.
"""

# Shapes:  n ids, D width of the warm-up's vectors, T width behind the projection, k of a table

import logging
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.embeddings.packed import pack
from models.embeddings.pruning import PrunedChoice
from models.sizing.spectral import CHUNK_ROWS, Floats, directions, second_moment
from models.tables import SizingPlan, Table
from service.config import TrainConfig
from service.data.dataset import DatasetInfo
from service.data.lookups import lookups_per_id
from service.distributed import Ranks
from service.resize.turns import common_turn
from service.run_cost import run_cost
from service.run_folder import RunFolder
from service.super_net import SuperNet, is_super_net
from service.train.initialise import local_shards, table_name
from service.train.warm_bases import Basis, Rotations, beside, first_axes, selected, strongest
from service.train.warm_layers import fitting_layers
from service.warm_up import Vectors, WarmUp, projection_slots

logger = logging.getLogger(__name__)

NEVER_READ: Final = 1e-9
"""Weight of ids without a lookup: they count only among themselves."""


@torch.no_grad()
def warm_start(
    model: nn.Module, config: TrainConfig, info: DatasetInfo, plan: SizingPlan, ranks: Ranks
) -> None:
    """Fill tables, projections and where they fit dense layers from the run ``config.warm_start``.

    The first rank finds the bases for all; every rank reads the rows of its own shards. So a model
    starts the same on 1 rank as on 8.

    Args:
        model: Holds the tables, sharded or not, already initialised.
        config: The run that starts.
        info: Its dataset.
        plan: Its tables, with the join of its network.
        ranks: The ranks that share the model.

    Raises:
        ValueError: If the warm-up has other ids, or narrower vectors than the plan wants.
        FileNotFoundError: If the warm-up is not there or has not ended.
    """
    assert config.warm_start is not None
    ranks.from_first(lambda: _check(config))
    has_slices = config.warm_columns and is_super_net(config.warm_start)
    warm_up = (SuperNet if has_slices else WarmUp)(config.warm_start)
    start = _Start(warm_up, config, info, plan)
    bases, rotations = ranks.from_first(start.bases)
    state = model.state_dict()
    for key, weight in state.items():
        table = start.tables.get(table_name(key))
        if table is not None:
            for shard, first_row, first_column in local_shards(weight):
                start.fill(shard, table, bases[table.name], first_row, first_column)
    num_layers = 0 if start.is_fresh else _copy_layers(start, config, state, bases, rotations)
    if ranks.is_first:
        logger.info(
            "warm start from %s: %d tables, %d of their projections, %d weights of dense layers",
            warm_up.folder,
            len(bases),
            sum(basis.up is not None for basis in bases.values()),
            num_layers,
        )


def _copy_layers(
    start: "_Start",
    config: TrainConfig,
    state: Mapping[str, Tensor],
    bases: Mapping[str, Basis],
    rotations: Rotations,
) -> int:
    """Fill projections and dense layers; how many of the latter."""
    for name, (index, slot) in projection_slots(start.plan).items():
        up = bases[name].up
        assert up is not None  # narrow tables are those that have a projection
        state[f"network.embeddings.unify.projections.{index}"][slot].copy_(torch.from_numpy(up))
    layers = start.layers(config, state, rotations)
    for name, layer in layers.items():
        state[name].copy_(layer)
    return len(layers)


def warm_start_facts(config: TrainConfig, folder: RunFolder) -> dict[str, object]:
    """The warm-up and its cost for the run's record, so that comparisons can count it."""
    assert config.warm_start is not None
    try:
        cost = run_cost(config.warm_start)
    except FileNotFoundError:  # it may be gone by the time of a resumption
        before: dict[str, object] = folder.read_run().get("warm_start", {})
        return before
    return {"run": str(config.warm_start), "seconds": cost.seconds, "examples": cost.examples}


def _check(config: TrainConfig) -> None:
    assert config.warm_start is not None
    if config.warm_start.resolve() == config.output.resolve():
        raise ValueError(
            f"warm_start={config.warm_start} is the run folder that is to be written; give another "
            f"--output"
        )
    run_cost(config.warm_start)  # raises where the run is not there or has not ended


class _Start:
    """How every table of a plan starts.

    Args:
        warm_up: Where from.
        config: The run; its dataset gives the lookups of every id.
        info: Its description.
        plan: The tables.
    """

    def __init__(
        self, warm_up: WarmUp, config: TrainConfig, info: DatasetInfo, plan: SizingPlan
    ) -> None:
        self.warm_up, self.plan = warm_up, plan
        self.tables = {table.name: table for table in plan.tables()}
        self.targets = {table.field: plan.target_dim(table) for table in plan.tables()}
        self.widths = warm_up.field_dims
        self._data, self._columns = config.data, config.warm_columns
        pruned = config.embeddings if isinstance(config.embeddings, PrunedChoice) else None
        self._thresholds = pruned.thresholds if pruned else {}
        self.is_fresh = pruned is not None and pruned.start == "fresh"
        for stats in info.field_stats:
            if stats.name in plan.fields:
                warm_up.check_field(stats)
        for name, target in self.targets.items():
            if target > self.widths[name]:
                raise ValueError(
                    f"field {name!r} is {target} wide behind its projection, the warm-up "
                    f"{warm_up.folder} knows {self.widths[name]} directions; warm up with a wider "
                    f"uniform plan, or size with --out-dim {self.widths[name]}"
                )

    @property
    def _is_cut(self) -> bool:
        """Whether narrow tables have the first columns of wide ones, so that order matters."""
        return self.plan.join == "pad" and len(set(self.plan.dims().values())) > 1

    def layers(
        self, config: TrainConfig, state: Mapping[str, Tensor], rotations: Rotations
    ) -> dict[str, Tensor]:
        """Dense layers that start as the warm-up's: all, or none where one of them cannot."""
        if type(config.network) is not type(self.warm_up.config.network) or list(
            self.warm_up.plan.fields
        ) != list(rotations):
            return {}
        widths = {name: self.widths[name] for name in rotations}
        return fitting_layers(self.warm_up.dense(), state, widths, rotations) or {}

    def bases(self) -> tuple[dict[str, Basis], dict[str, Floats | None]]:
        """Basis of every table, and the rotation of every field."""
        if self._columns:
            lifts = self.warm_up.lifts if isinstance(self.warm_up, SuperNet) else None
            return selected(self._columns, self.plan, self.widths, lifts)
        moments = {name: self._moment(table) for name, table in self.tables.items()}
        whole = {
            field: sum((moments[t.name] for t in self.tables.values() if t.field == field), 0.0)
            for field in self.plan.fields
        }
        rotations = self._rotations({name: np.asarray(value) for name, value in whole.items()})
        bases = {
            name: first_axes(rotations[table.field], table.embedding_dim)
            if self.plan.join == "pad" and rotations[table.field] is not None
            else strongest(moments[name], rotations[table.field], table.embedding_dim)
            for name, table in self.tables.items()
        }
        return bases, rotations

    def _moment(self, table: Table) -> Floats:
        counts = self._counts(table.field)
        return second_moment(
            (vectors, counts[first : first + len(vectors)])
            for first, vectors in self._pieces(table, 0, table.num_ids)
        )

    def _rotations(self, moments: Mapping[str, Floats]) -> dict[str, Floats | None]:
        """Per field ``(D, T)``, the vectors it aims at; None where they are the warm-up's own."""
        narrow = [name for name, width in self.targets.items() if width < self.widths[name]]
        if not narrow and not self._is_cut:
            return dict.fromkeys(self.targets)
        if self.plan.join == "concatenate":
            return {
                name: directions(moments[name])[0][:, :target] if name in narrow else None
                for name, target in self.targets.items()
            }
        # A bias in the first column is no factor: it stays where it is.
        fixed = int(self.warm_up.has_bias_column)
        free = {name: moment[fixed:, fixed:] for name, moment in moments.items()}
        axes = self.plan.out_dim - fixed
        return {
            name: beside(fixed, turn[:, :axes])
            for name, turn in common_turn(free, is_pair=len(free) == 2).items()
        }

    def _pieces(self, table: Table, start: int, end: int) -> Iterator[tuple[int, Vectors]]:
        """Vectors of the ids at positions ``start`` to ``end`` of a table, with their first id."""
        first, last = table.first_id + start, table.first_id + end
        yield from self.warm_up.pieces(table.field, first, last)

    def fill(
        self, shard: Tensor, table: Table, basis: Basis, first_row: int, first_column: int
    ) -> None:
        """Fill stored rows of a table, this rank's alone."""
        start = first_row * table.packing
        end = min((first_row + shard.shape[0]) * table.packing, table.num_embeddings)
        fill = self._shared_rows if table.hashed_ids else self._rows
        stored = pack(fill(table, basis, start, end).float(), table)
        stored = stored[:, first_column : first_column + shard.shape[1]].to(shard.device)
        values = shard if self.is_fresh else stored
        if table.field in self._thresholds:
            values = values * (stored.abs() >= self._thresholds[table.field])
        shard.copy_(values)

    def _rows(self, table: Table, basis: Basis, start: int, end: int) -> Tensor:
        rows = torch.empty(end - start, table.embedding_dim, dtype=torch.float64)
        for first, vectors in self._pieces(table, start, end):
            at = first - table.first_id - start
            for low in range(0, len(vectors), CHUNK_ROWS):
                chunk = torch.from_numpy(vectors[low : low + CHUNK_ROWS] @ basis.down)
                rows[at + low : at + low + len(chunk)] = chunk
        return rows

    def _shared_rows(self, table: Table, basis: Basis, start: int, end: int) -> Tensor:
        """Rows that several ids share: the mean of their vectors by lookups."""
        sums = torch.zeros(table.num_embeddings, table.embedding_dim, dtype=torch.float64)
        weights = torch.zeros(table.num_embeddings, dtype=torch.float64)
        for first, vectors in self._pieces(table, 0, table.num_ids):
            counts = self._counts(table.field)[first : first + len(vectors)]
            weight = torch.from_numpy(np.maximum(counts, NEVER_READ))
            ids = torch.arange(first - table.first_id, first - table.first_id + len(vectors))
            rows = ids % table.num_embeddings
            weights.index_add_(0, rows, weight)
            sums.index_add_(0, rows, torch.from_numpy(vectors @ basis.down) * weight[:, None])
        return (sums / weights[:, None])[start:end]

    def _counts(self, field: str) -> NDArray[np.int64]:
        return lookups_per_id(self._data, field)
