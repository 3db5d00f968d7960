"""Pooled tables of different widths as vectors of the fields."""

# Shapes:  B batch, D_f width of field f's vector, d width of a table, n tables or fields of one
#          width, s columns of a field

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.choice import Pooling, ProjectionInit
from models.embeddings.columns import ColumnPicker
from models.embeddings.groups import FieldGroup, Kind, lay_out
from models.embeddings.packed import feature_names, slotted
from models.embeddings.vectors import FieldVectors, Group, NarrowVectors
from models.tables import Table


class WidthUnifier(nn.Module):
    """Pooled tables as vectors of the fields, widened where nothing is gained by waiting.

    A field whose tables together are narrower than its vector stays narrow, see
    `models.embeddings.vectors.NarrowVectors`. Blocks that together are not are projected and
    summed here, with one batched matmul a shape.

    A mean over several features, those of blocks or of slots, is taken here: they are summed, and
    divided by the number of ids in all of them.

    Args:
        tables: The tables in the order of the fields; blocks of a field stand together.
        field_dims: ``D_f`` of every field.
        init: How projections start; None to pad with zeros instead.
        pooling: The list-valued fields, and how each is pooled.

    Attributes:
        summed: Tables whose bags are to be summed, for the mean is taken here.

    Shape:
        - Input: a `KeyedTensor` with one key a feature, in any order (sharding changes it), and
          the features it was pooled from.
        - Output: vectors of the fields, in the order of ``tables``.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        field_dims: Sequence[int],
        *,
        init: ProjectionInit | None = "prefix",
        pooling: Mapping[str, Pooling] | None = None,
    ) -> None:
        super().__init__()
        pooling = pooling or {}
        blocks_of = _by_field(tables)
        self.field_dims = tuple(field_dims)
        target = dict(zip(blocks_of, field_dims, strict=True))
        by_shape: dict[tuple[int, int], list[str]] = {}
        for table in tables if init else ():
            if table.embedding_dim < target[table.field]:
                shape = table.embedding_dim, target[table.field]
                by_shape.setdefault(shape, []).append(table.name)
        self.narrow_tables = list(by_shape.items())
        self.projections = nn.ParameterList(
            nn.Parameter(_projections(len(names), *shape, init))  # (n, d, D_f)
            for shape, names in self.narrow_tables
            if init
        )
        self._groups = lay_out(blocks_of, field_dims, pooling)
        for index, group in enumerate(self._groups):
            rows = torch.tensor(self._rows_read_by(group))
            self.register_buffer(f"rows_{index}", rows, persistent=False)
        columns = [column for group in self._groups for column in group.columns]
        self._pick = ColumnPicker(columns, num_slotted=len(slotted(tables, pooling)))
        means = _keys_of_means(blocks_of, pooling)
        self._means = [(place, means[f]) for place, f in enumerate(blocks_of) if f in means]
        self.summed = frozenset(table.name for table in tables if table.field in means)

    def forward(self, pooled: KeyedTensor, features: KeyedJaggedTensor) -> FieldVectors:
        """Sort the columns, and widen what has to be."""
        columns = self._pick(pooled, features)
        if self._means:
            columns = columns / self._divisors(columns, features)
        groups = self._with_matrices(columns)
        if "wide" in groups:
            columns = self._widened(columns, groups["wide"])
        if "narrow" not in groups:
            return FieldVectors(columns)
        return NarrowVectors(columns, groups["narrow"], self.field_dims)

    def _with_matrices(self, columns: Tensor) -> dict[Kind, list[Group]]:
        """The groups of narrow fields, and of those to be widened, each field with its matrix."""
        pools: dict[int, Tensor] = {}
        groups: dict[Kind, list[Group]] = {}
        for index, group in enumerate(self._groups):
            if group.kind == "plain":
                continue
            if group.dim not in pools:
                axes = torch.eye(group.dim, dtype=columns.dtype, device=columns.device)
                pools[group.dim] = torch.cat([*self._projected_rows(group.dim), axes])
            rows = pools[group.dim].index_select(0, self.get_buffer(f"rows_{index}"))
            matrices = rows.view(len(group.fields), -1, group.dim)  # (n, s, D_f)
            found = Group(positions=group.positions, matrices=matrices)
            groups.setdefault(group.kind, []).append(found)
        return groups

    def _projected_rows(self, dim: int) -> list[Tensor]:
        """The rows of all projections to a width ``(n d, D_f)``, in the order of their shapes."""
        return [
            stack.flatten(0, 1)
            for ((_, target), _), stack in zip(self.narrow_tables, self.projections, strict=True)
            if target == dim
        ]

    def _rows_read_by(self, group: FieldGroup) -> list[int]:
        """By column of its fields: which row of the pool of all projections to their width.

        The pool is `_projected_rows`, and behind them the axes, for tables that need no projection.
        """
        first: dict[str, int] = {}
        num_rows = 0
        for (width, dim), names in self.narrow_tables:
            if dim == group.dim:
                first |= {name: num_rows + place * width for place, name in enumerate(names)}
                num_rows += width * len(names)
        reads = [read for field in group.fields for read in field.rows]
        return [first.get(table, num_rows) + element for table, element in reads]

    def _widened(self, columns: Tensor, groups: Sequence[Group]) -> Tensor:
        """The narrow columns as they are, then all other fields in their order."""
        plain = [field for g in self._groups if g.kind == "plain" for field in g.fields]
        dims, widths = [field.dim for field in plain], [group.num_columns for group in groups]
        narrow = columns.shape[1] - sum(dims) - sum(widths)
        first, *parts = torch.split(columns, [narrow, *dims, *widths], dim=1)
        vectors = dict(zip([field.position for field in plain], parts, strict=False))
        for group, part in zip(groups, parts[len(plain) :], strict=True):
            vectors.update(zip(group.positions, group.widened(part), strict=True))
        return torch.cat([first, *(vectors[position] for position in sorted(vectors))], dim=1)

    def _divisors(self, columns: Tensor, features: KeyedJaggedTensor) -> Tensor:
        """By what every column is divided: the ids of its field, where that is a mean."""
        lengths = features.lengths().view(-1, features.stride())
        of_fields = {
            position: lengths[keys].sum(0).clamp(min=1).to(columns.dtype)  # (B,)
            for position, keys in self._means
        }
        fields = [field for group in self._groups for field in group.fields]
        one = columns.new_ones(columns.shape[0])
        by_column = [of_fields.get(f.position, one) for f in fields for _ in f.columns]
        return torch.stack(by_column, dim=1)


def tables_apart(
    tables: Sequence[Table], pooling: Mapping[str, Pooling] | None = None
) -> WidthUnifier:
    """Every table's vector as it is, side by side, whatever field it is of.

    Args:
        tables: In the order of the fields.
        pooling: The list-valued fields, and how each is pooled.
    """
    pooling = pooling or {}
    return WidthUnifier(
        [replace(table, field=table.name) for table in tables],
        [table.embedding_dim for table in tables],
        init=None,
        pooling={t.name: pooling[t.field] for t in tables if t.field in pooling},
    )


def _by_field(tables: Sequence[Table]) -> dict[str, list[Table]]:
    return {name: list(blocks) for name, blocks in groupby(tables, key=lambda t: t.field)}


def _keys_of_means(
    blocks_of: Mapping[str, Sequence[Table]], pooling: Mapping[str, Pooling]
) -> dict[str, slice]:
    """The features of fields that are means over several of them, which kernels cannot take."""
    means, first = {}, 0
    for field, blocks in blocks_of.items():
        last = first + sum(len(feature_names(table, pooling)) for table in blocks)
        if pooling.get(field) == "mean" and last > first + 1:
            means[field] = slice(first, last)
        first = last
    return means


def _projections(num_tables: int, width: int, target: int, init: ProjectionInit) -> Tensor:
    """``(n, d, D)`` projections at their start."""
    projections = torch.empty(num_tables, width, target)
    for projection in projections:
        match init:
            case "prefix" | "identity":
                nn.init.eye_(projection)
            case "orthogonal":
                nn.init.orthogonal_(projection)
            case "xavier":
                nn.init.xavier_uniform_(projection)
    return projections
