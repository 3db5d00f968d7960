"""What becomes of every table: which old tables its rows come from, and through which matrices.

A row of width ``d`` stands for the vector ``row @ projection``, and the vector is what is kept:

* where the ids come from one table that is no wider, rows and projection stay, with zero columns
  behind the rows and starting rows under the projection. Zeros on one side only: with zeros on
  both, neither would ever get a gradient;
* where the table is as wide as the field's vectors, rows become the vectors themselves;
* otherwise rows and projection are the truncated SVD of the vectors, each id weighted by its
  lookups: of all tables of that width the one that loses least;
* padded tables take the first columns.

Gradients go the other way: where rows are multiplied by ``A``, first moments of gradients are by
its pseudo-inverse, transposed, and second moments by the squares of that.
"""

# Shapes:  D width of a field's vectors before, T width after, d width of a table, s of a source

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.sizing.spectral import Floats, directions, second_moment
from models.tables import SizingPlan, Table
from service.resize.turns import Turn
from service.vocabulary_change import IdChange
from service.warm_up import WarmUp

NEVER_READ = 1e-9
"""Weight of ids without a lookup: they count only among themselves."""


@dataclass(frozen=True, slots=True)
class Source:
    """An old table that rows of a new one come from."""

    table: Table
    rows: Floats | None = None
    """``(s, d)``, what its rows are multiplied with; None where they are taken as they are."""
    moments: Floats | None = None
    """``(s, d)``, the same of first moments of their gradients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableChange:
    """What becomes of one table of the new plan."""

    table: Table
    sources: tuple[Source, ...]
    """None for a field that is new."""
    projection: Floats | None
    """``(d, T)``; None for a table that needs none."""
    kept_axes: int = 0
    """Rows of the projection that are those of the only source, with their optimizer state."""
    is_refit: bool = False
    """Whether rows and projection are a truncated SVD."""
    fresh_from: int | None = None
    """Column from which rows start as in a new run; None where they start at zero."""
    is_same: bool = False
    """Whether each of its rows is made of the row of the same number."""
    lost_ratio: float = 0.0
    """Share of the energy of its ids' vectors, weighted by lookups, that is lost."""


class Tables:
    """The tables of a run as those of another plan.

    Args:
        old: The run.
        plan: The plan it is to go on with.
        ids: What became of the ids of every field that both have.
        counts: Training lookups of every id of a field.
    """

    def __init__(
        self,
        old: WarmUp,
        plan: SizingPlan,
        ids: Mapping[str, IdChange],
        counts: Callable[[str], Floats],
    ) -> None:
        self.old, self.plan, self.ids, self._counts = old, plan, ids, counts
        self.tables = list(plan.tables())
        self._moments: dict[str, Floats] = {}

    def sources(self, table: Table) -> list[Table]:
        """The old tables that ids of a table had their rows in."""
        if table.field not in self.ids:
            return []
        of_field = [t for t in self.old.plan.tables() if t.field == table.field]
        old_ids, _ = self.ids[table.field].before(table.first_id, table.first_id + table.num_ids)
        starts = [t.first_id for t in of_field]
        return [of_field[i] for i in np.unique(np.searchsorted(starts, old_ids, "right") - 1)]

    def moment(self, table: Table) -> Floats:
        """Second moment of the old vectors of a table's ids ``(D, D)``."""
        if table.name not in self._moments:
            first, end = table.first_id, table.first_id + table.num_ids
            old_ids, _ = self.ids[table.field].before(first, end)
            weights = np.bincount(
                old_ids, weights=np.maximum(self._counts(table.field)[first:end], NEVER_READ)
            )
            self._moments[table.name] = second_moment(
                (vectors, weights[at : at + len(vectors)])
                for at, vectors in self.old.pieces(table.field, int(old_ids.min()), len(weights))
            )
        return self._moments[table.name]

    def field_moment(self, field: str) -> Floats:
        """Second moment of the old vectors of a field's ids ``(D, D)``."""
        moments = [self.moment(table) for table in self.tables if table.field == field]
        return np.sum(moments, axis=0)  # type: ignore[no-any-return]

    def change(self, table: Table, turn: Turn | None, start: Floats | None) -> TableChange:
        """What becomes of a table.

        Args:
            table: A table of the new plan.
            turn: How its field's vectors change; None for a new field.
            start: How its projection would start, were the run a new one.
        """
        sources = self.sources(table)
        if turn is None or not sources:
            return TableChange(table=table, sources=(), projection=start)
        width = table.embedding_dim
        if start is None:
            down = np.eye(self.plan.target_dim(table), width)
            return self._through(table, sources, turn, down, down.T, None)
        if len(sources) == 1 and sources[0].embedding_dim <= width:
            return self._extended(table, sources[0], turn, start)
        down, up = directions(turn.ahead.T @ self.moment(table) @ turn.ahead)
        return self._through(table, sources, turn, down[:, :width], up[:width], up[:width])

    def _extended(self, table: Table, source: Table, turn: Turn, start: Floats) -> TableChange:
        """Rows as they were, perhaps with zeros behind, and their projection."""
        held, width = source.embedding_dim, table.embedding_dim
        projection = np.concatenate([self.projection(source) @ turn.ahead, start[held:]])
        beside = None if held == width else np.eye(held, width)
        return TableChange(
            table=table,
            sources=(Source(source, beside, beside),),
            projection=projection,
            kept_axes=held if turn.is_kept and self.is_projected(source) else 0,
            is_same=self._has_same_rows(table, source),
            lost_ratio=self._lost(table, turn, np.eye(turn.ahead.shape[1])),
        )

    def _through(
        self,
        table: Table,
        sources: Sequence[Table],
        turn: Turn,
        down: Floats,
        up: Floats,
        projection: Floats | None,
    ) -> TableChange:
        """Rows that are the turned vectors times ``down``, from which ``up`` leads back."""
        found = []
        for source in sources:
            held = self.projection(source)
            rows = held @ turn.ahead @ down
            is_kept = rows.shape[0] == rows.shape[1] and (rows == np.eye(len(rows))).all()
            moments = np.linalg.pinv(held).T @ turn.back.T @ up.T
            found.append(Source(source) if is_kept else Source(source, rows, moments))
        is_cut = projection is not None or any(
            self.reach(source) > table.embedding_dim for source in sources
        )
        return TableChange(
            table=table,
            sources=tuple(found),
            projection=projection,
            is_refit=projection is not None,
            is_same=len(found) == 1 and self._has_same_rows(table, sources[0]),
            lost_ratio=self._lost(table, turn, down @ up, is_cut=is_cut),
        )

    def _lost(self, table: Table, turn: Turn, kept: Floats, *, is_cut: bool = False) -> float:
        """Share of the energy that does not come back: 1 - kept."""
        if turn.is_kept and not is_cut:
            return 0.0
        moment = self.moment(table)
        lost = np.eye(len(moment)) - turn.ahead @ kept @ turn.back
        whole = float(np.trace(moment))
        return max(0.0, float(np.trace(lost.T @ moment @ lost))) / whole if whole else 0.0

    def projection(self, source: Table) -> Floats:
        """What rows of an old table are multiplied with ``(s, D)``; of a wide one the identity."""
        found = self.old.projection(source)
        width = source.embedding_dim
        return np.eye(width) if found is None else found.astype(np.float64)

    def is_projected(self, source: Table) -> bool:
        """Whether an old table has a projection that is learned."""
        return self.old.plan.projected_dim(source) > 0

    def reach(self, source: Table) -> int:
        """Columns of a vector that an old table fills."""
        return self.old.plan.projected_dim(source) or source.embedding_dim

    def _has_same_rows(self, table: Table, source: Table) -> bool:
        return self.ids[table.field].is_same and all(
            getattr(table, name) == getattr(source, name)
            for name in ("first_id", "num_embeddings", "hashed_ids")
        )
