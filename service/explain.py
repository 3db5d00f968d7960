"""What a sizing plan gives every table, and what another plan gives it instead; free of torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from models.sizing.budget import PlanBytes
from models.tables import Block, FieldStats, Table
from service.sizing import SizingFile, sizing_bytes
from sharding.placement import Placement, TablePlacement


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLine:
    """One table of a plan."""

    name: str
    field: str
    num_ids: int
    """Ids that the table covers; more than its rows where a tail is hashed."""
    num_embeddings: int
    stored_rows: int
    """Rows as kernels hold them: fewer where narrow rows are packed."""
    stored_dim: int
    coverage_ratio: float | None
    """Share of the field's training lookups that are not "out of vocabulary"."""
    lookup_ratio: float | None
    """Share of the field's training lookups that go to this table."""
    asked_dim: float
    embedding_dim: int
    weight_bytes: int
    optimizer_bytes: int
    projection_bytes: int
    """Projection with its optimizer's state."""
    serving_bytes: int
    """Of the exported table with its projection, in the dtype of the plan."""
    placement: str | None
    """Sharding type and ranks."""
    reason: str

    @property
    def total_bytes(self) -> int:
        """Bytes of training."""
        return self.weight_bytes + self.optimizer_bytes + self.projection_bytes


def explain(
    sizing: SizingFile,
    stats: Sequence[FieldStats] = (),
    placement: Placement | None = None,
) -> list[TableLine]:
    """A line a table, in the order of the fields.

    Args:
        sizing: The plan.
        stats: Statistics of the fields; coverage is None without them.
        placement: Where tables live; None where that is not known.

    Raises:
        ValueError: If the placement is of other tables.
    """
    costs = sizing_bytes(sizing).tables
    known = {field.name: field for field in stats}
    places = {table.name: table for table in placement.tables} if placement else None
    if places is not None:
        _check_placed(sizing, places)
    return [
        TableLine(
            name=table.name,
            field=table.field,
            num_ids=table.num_ids,
            num_embeddings=table.num_embeddings,
            stored_rows=table.stored.num_embeddings,
            stored_dim=table.stored.embedding_dim,
            coverage_ratio=known[table.field].coverage_ratio if table.field in known else None,
            lookup_ratio=_lookup_ratio(table, known[table.field]) if table.field in known else None,
            asked_dim=block.asked_dim,
            embedding_dim=table.embedding_dim,
            weight_bytes=costs[table.name].weights,
            optimizer_bytes=costs[table.name].optimizer_state,
            projection_bytes=costs[table.name].projection + costs[table.name].projection_state,
            serving_bytes=costs[table.name].serving,
            placement=describe_place(places[table.name]) if places else None,
            reason=sizing.reasons.get(table.field, ""),
        )
        for table, block in _with_blocks(sizing)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldChange:
    """What another plan does to a field."""

    field: str
    old_dims: tuple[int, ...]
    """Width of every block, most frequent ids first."""
    new_dims: tuple[int, ...]
    old_rows: tuple[int, ...]
    new_rows: tuple[int, ...]
    old_bytes: int
    new_bytes: int

    @property
    def change_bytes(self) -> int:
        """Bytes of training that the other plan adds; negative where it saves."""
        return self.new_bytes - self.old_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One plan against another."""

    changed: tuple[FieldChange, ...]
    """Largest change of bytes first, whichever way it goes."""
    unchanged: tuple[str, ...]
    unchanged_bytes: int
    only_old: tuple[str, ...]
    """Fields that only the first plan sizes."""
    only_new: tuple[str, ...]
    old_totals: PlanBytes
    new_totals: PlanBytes


def compare(old: SizingFile, new: SizingFile) -> Difference:
    """Field by field, what the second plan does differently, bytes under each plan's optimizer."""
    old_bytes, new_bytes = _field_bytes(old), _field_bytes(new)
    changes = [
        _change(name, old, new, old_bytes, new_bytes) for name in old.fields if name in new.fields
    ]
    changed = [
        change
        for change in changes
        if change.change_bytes
        or _shapes(old.fields[change.field]) != _shapes(new.fields[change.field])
    ]
    changed.sort(key=lambda change: (-abs(change.change_bytes), change.field))
    touched = {change.field for change in changed}
    unchanged = [change for change in changes if change.field not in touched]
    return Difference(
        changed=tuple(changed),
        unchanged=tuple(change.field for change in unchanged),
        unchanged_bytes=sum(change.new_bytes for change in unchanged),
        only_old=tuple(name for name in old.fields if name not in new.fields),
        only_new=tuple(name for name in new.fields if name not in old.fields),
        old_totals=sizing_bytes(old),
        new_totals=sizing_bytes(new),
    )


def describe_place(table: TablePlacement) -> str:
    """Sharding type and ranks in words: ``row_wise on 0-7``."""
    ranks = sorted({shard.rank for shard in table.shards})
    first, last = ranks[0], ranks[-1]
    if len(ranks) == 1:
        where = str(first)
    elif last - first == len(ranks) - 1:
        where = f"{first}-{last}"
    else:
        where = f"{len(ranks)} of {first}-{last}"
    return f"{table.sharding_type} on {where}"


def _with_blocks(sizing: SizingFile) -> Iterator[tuple[Table, Block]]:
    blocks = (block for of_field in sizing.fields.values() for block in of_field)
    yield from zip(sizing.plan.tables(), blocks, strict=True)


def _lookup_ratio(table: Table, stats: FieldStats) -> float | None:
    """Share of lookups by the frequency curve, linear between its points."""
    if table.num_ids == stats.num_embeddings:
        return 1.0
    if not stats.frequency_curve or not stats.num_lookups:
        return None
    below = _lookups_below(table.first_id + table.num_ids, stats)
    return (below - _lookups_below(table.first_id, stats)) / stats.num_lookups


def _lookups_below(rank: int, stats: FieldStats) -> float:
    points = [(0, 0), *stats.frequency_curve, (stats.num_embeddings, stats.num_lookups)]
    for (left, low), (right, high) in pairwise(points):
        if left <= rank <= right and right > left:
            return low + (high - low) * (rank - left) / (right - left)
    return float(stats.num_lookups)


def _check_placed(sizing: SizingFile, places: Mapping[str, TablePlacement]) -> None:
    for table in sizing.plan.tables():
        if table.name not in places:
            raise ValueError(
                f"sharding plan: it does not place table {table.name!r}; run mixdim plan for this "
                f"sizing"
            )
        stored = table.stored.num_embeddings, table.stored.embedding_dim
        placed = places[table.name].num_embeddings, places[table.name].embedding_dim
        if stored != placed:
            raise ValueError(
                f"table {table.name!r}: placed as {placed[0]:,} x {placed[1]}, but this sizing "
                f"stores it as {stored[0]:,} x {stored[1]}; run mixdim plan for this sizing"
            )


def _field_bytes(sizing: SizingFile) -> dict[str, int]:
    costs = sizing_bytes(sizing).tables
    totals = dict.fromkeys(sizing.fields, 0)
    for table in sizing.plan.tables():
        totals[table.field] += costs[table.name].total
    return totals


def _shapes(blocks: Sequence[Block]) -> list[tuple[int, int, int]]:
    return [(block.num_embeddings, block.embedding_dim, block.hashed_ids) for block in blocks]


def _change(
    name: str,
    old: SizingFile,
    new: SizingFile,
    old_bytes: Mapping[str, int],
    new_bytes: Mapping[str, int],
) -> FieldChange:
    return FieldChange(
        field=name,
        old_dims=tuple(block.embedding_dim for block in old.fields[name]),
        new_dims=tuple(block.embedding_dim for block in new.fields[name]),
        old_rows=tuple(block.num_embeddings for block in old.fields[name]),
        new_rows=tuple(block.num_embeddings for block in new.fields[name]),
        old_bytes=old_bytes[name],
        new_bytes=new_bytes[name],
    )
