"""What a resize would do, in words and numbers: what ``--dry-run`` shows and ``run.json`` keeps."""

from dataclasses import dataclass

from models.tables import Table
from service.resize.entries import STATES
from service.resize.plan import Resize
from service.resize.tables import TableChange


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLine:
    """One table of the new plan, or one of a field that is gone."""

    table: str
    before: str
    """The old tables its rows come from, rows x width each."""
    after: str
    """Its rows x width."""
    what: str
    kept_ratio: float | None
    """Share of the energy of its ids' vectors, weighted by lookups, that is kept; None where ids
    come to share rows, which is not measured."""
    optimizer: str
    projection: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What becomes of every part of a run."""

    checkpoint: str
    tables: tuple[TableLine, ...]
    layers: tuple[str, ...]
    """Dense layers that do not simply stay."""
    num_kept_layers: int
    position: str
    """Where in the data the run goes on."""
    is_exact: bool
    """Whether the model says of every example what it said."""


def report(resize: Resize) -> Report:
    """Describe a resize."""
    gone = [
        _gone(table) for table in resize.old.plan.tables() if table.field not in resize.plan.fields
    ]
    changed = [line for name in resize.axes if (line := _layer(resize, name))]
    lost = max(change.lost_ratio for change in resize.tables)
    shares = any(_shares_rows(change) for change in resize.tables)
    dropped = any(change.num_dropped for change in resize.ids.values())
    return Report(
        checkpoint=str(resize.old.checkpoint),
        tables=(*(_line(resize, change) for change in resize.tables), *gone),
        layers=tuple(changed),
        num_kept_layers=len(resize.axes) - len(changed),
        position=_position(resize),
        is_exact=lost < ROUNDING and not (gone or shares or dropped),
    )


ROUNDING = 1e-10
"""Share of energy that is lost by rounding alone."""


def _line(resize: Resize, change: TableChange) -> TableLine:
    return TableLine(
        table=change.table.name,
        before=", ".join(_size(source.table) for source in change.sources) or "-",
        after=_size(change.table, named=False),
        what=", ".join(_what(resize, change)),
        kept_ratio=None if _shares_rows(change) else 1 - change.lost_ratio,
        optimizer=_optimizer(resize, change),
        projection=_projection(change),
    )


def _shares_rows(change: TableChange) -> bool:
    """Whether its ids have rows in common that they had not, or had with others."""
    return bool(change.table.hashed_ids) and bool(change.sources) and not change.is_same


def _gone(table: Table) -> TableLine:
    return TableLine(
        table=table.name,
        before=_size(table),
        after="-",
        what="field removed",
        kept_ratio=0.0,
        optimizer="dropped",
        projection="dropped",
    )


def _size(table: Table, *, named: bool = True) -> str:
    size = f"{table.num_embeddings:,} x {table.embedding_dim}"
    return f"{table.name} {size}" if named else size


def _what(resize: Resize, change: TableChange) -> list[str]:
    table, sources = change.table, [source.table for source in change.sources]
    if not sources:
        return ["field added, starts at zero"]
    ids = resize.ids[table.field]
    widths = {source.embedding_dim for source in sources}
    found = {
        "widened": min(widths) < table.embedding_dim,
        "narrowed": max(widths) > table.embedding_dim,
        "merged": len(sources) > 1,
        "ids cut elsewhere": ids.is_same
        and len(sources) == 1
        and (table.first_id, table.num_ids) != (sources[0].first_id, sources[0].num_ids),
        "packed": table.packing > max(source.packing for source in sources),
        "unpacked": table.packing < max(source.packing for source in sources),
        "ids share rows": _shares_rows(change),
        "rows of its own for every id": not table.hashed_ids
        and any(source.hashed_ids for source in sources),
        f"vectors {_turn(resize, table)}": _turn(resize, table) != "kept",
    }
    _, is_new = ids.before(table.first_id, table.first_id + table.num_ids)
    if num_new := int(is_new.sum()):
        found[f"{num_new:,} new ids as out of vocabulary"] = True
    if table.first_id == 0 and ids.num_dropped:
        found[f"{ids.num_dropped:,} ids of the field dropped"] = True
    if not ids.is_same:
        found["ids ranked anew"] = True
    return [what for what, is_so in found.items() if is_so] or ["kept"]


def _turn(resize: Resize, table: Table) -> str:
    turn = resize.turns[table.field]
    before, after = turn.ahead.shape
    return turn.kind if before <= after else f"{turn.kind} {before} -> {after}"


def _optimizer(resize: Resize, change: TableChange) -> str:
    states = STATES[resize.config.optimizer.sparse]
    if not states:
        return "none"
    if not resize.carries_state:
        return f"fresh, was {resize.old.config.optimizer.sparse}'s"
    if not change.sources:
        return "fresh"
    if _shares_rows(change):
        return "added up by row"
    if all(source.rows is None for source in change.sources):
        return "carried"
    if "rowwise" in states[0]:
        return "carried by row"
    return "mapped" if change.projection is None or change.is_refit else "carried, columns fresh"


def _projection(change: TableChange) -> str:
    if change.projection is None:
        return "none"
    if not change.sources:
        return "new"
    if change.is_refit:
        return "refit"
    fresh = change.table.embedding_dim - change.kept_axes
    if not change.kept_axes:
        return "from the old vectors"
    return f"kept, {fresh} axes new" if fresh else "kept"


def _layer(resize: Resize, name: str) -> str:
    """What happens to a dense layer; empty where it stays as it is."""
    old, new = resize.old.stored.shapes[f"model.{name}"], tuple(resize.start[name].shape)
    parts = [
        resize.fields.parts(axis, *sizes)
        for axis, *sizes in zip(resize.axes[name], old, new, strict=True)
    ]
    is_folded = any(part.weights is not None for of_axis in parts for part in of_axis)
    is_moved = any(
        (part.old != part.new).any()
        for of_axis in parts
        for part in of_axis
        if part.weights is None
    )
    if old == new and not is_folded and not is_moved:
        return ""
    does = ["folded with the turned vectors"] if is_folded else []
    for size, of_axis in zip(new, parts, strict=True):
        if fresh := size - sum(len(part.new) for part in of_axis):
            does.append(f"{fresh} new inputs or outputs")
    return f"{name} {_shape(old)} -> {_shape(new)}: {', '.join(does) or 'inputs moved or left out'}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _position(resize: Resize) -> str:
    progress = resize.progress
    where = f"step {progress.step}, epoch {progress.epoch}"
    if resize.is_other_data:
        return f"{where} from its start: the dataset is another"
    return f"{where}, batch {progress.batch}: exactly where the run stopped"
