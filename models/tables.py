"""What is known of a field, and how its rows are cut into tables: the words every package shares.

A *field* is a categorical column. Its ids are ranks: 0 is the value that the training split shows
most often. A *block* is a run of a field's rows that share a width; each block is one TorchRec
table with one feature. A *sizing plan* says which blocks every field has.

This file is free of torch, so that the command line answers at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal

SparseOptimizer = Literal["rowwise_adagrad", "sgd", "adagrad", "adam", "amsgrad"]
"""Optimizers of tables. FBGEMM applies them inside the backward pass, except for amsgrad anywhere
and adam on CPUs: their tables are dense parameters, a copy on every rank."""

Join = Literal["project", "pad", "concatenate"]
"""How a model brings its fields together. Interactions need them equally wide: narrow ones are
projected by learned matrices, or padded with zeros, which costs no bytes and leaves the columns of
all fields aligned. Other models take them side by side, each as wide as its table."""

FLOAT_BYTES = 4
WIDTH_STEP = 4
"""FBGEMM's fused kernels take widths that are multiples of this, column shards included."""
PACKED_DIMS = (1, 2)
"""Widths below `WIDTH_STEP` that kernels can have all the same, see `Table.stored`."""

_MODULE_WORDS: Final = (
    "T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu "
    "cuda double dump_patches eval extra_repr float forward get_buffer get_extra_state "
    "get_parameter get_submodule half ipu items keys load_state_dict modules mtia named_buffers "
    "named_children named_modules named_parameters parameters pop register_backward_hook "
    "register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook "
    "register_full_backward_pre_hook register_load_state_dict_post_hook "
    "register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state "
    "set_submodule share_memory state_dict to to_empty train training type update values xpu "
    "zero_grad"
)
MODULE_WORDS: Final = frozenset(_MODULE_WORDS.split())
"""Attributes of a `torch.nn.ModuleDict`, whose entries tables are, so that none can have the name;
written down because this file is free of torch."""


def is_fused(optimizer: SparseOptimizer, device: Literal["cpu", "cuda"]) -> bool:
    """Whether FBGEMM applies an optimizer inside the backward pass on this kind of device."""
    return optimizer != "amsgrad" and (optimizer != "adam" or device == "cuda")


class PlanError(ValueError):
    """A plan that cannot be: a budget too small, or a table that fits on no rank.

    Args:
        message: What has which value, what was expected, what to do.
        needed_bytes: The number of bytes that would do.
        table: The table that does not fit, where it is one table's fault.
    """

    def __init__(self, message: str, *, needed_bytes: int, table: str | None = None) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.table = table

    def __reduce__(self) -> tuple[object, ...]:
        # Ranks send each other what they raise, and pickle alone would lose the named arguments.
        return partial(PlanError, needed_bytes=self.needed_bytes, table=self.table), self.args


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldStats:
    """What the training split says about one field; the only input of a sizing scheme."""

    name: str
    """Column of the dataset."""

    num_embeddings: int
    """Rows of the table: kept values, and one each for "missing" and "out of vocabulary"."""

    num_lookups: int
    """Ids that the training split looks up in this field; more than its rows for list fields."""

    pooling_factor: float = 1.0
    """Mean number of ids an example has in this field."""

    coverage_ratio: float = 1.0
    """Share of the training lookups that hit a kept value or "missing", not "out of vocabulary"."""

    frequency_curve: tuple[tuple[int, int], ...] = ()
    """Pairs ``(rank, lookups of all ids below that rank)`` at ranks that grow geometrically."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A run of a field's rows, in order of frequency, that share a width."""

    num_embeddings: int
    """Rows."""

    embedding_dim: int
    """Used width; 1, 2 or a multiple of 4 where fused kernels train it."""

    asked_dim: float
    """Width that the rule asked for, before rounding, cap and budget."""

    hashed_ids: int = 0
    """Ids that the block covers beyond its rows: all its ids share rows by ``position % rows``.
    A block of one row is a frequency threshold: its ids are one value, "rare"."""

    def __post_init__(self) -> None:
        for name, least in (("num_embeddings", 1), ("embedding_dim", 1), ("hashed_ids", 0)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"block: {name}={value}, expected at least {least}")

    @property
    def num_ids(self) -> int:
        """Ids that the block covers."""
        return self.num_embeddings + self.hashed_ids


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One block as TorchRec sees it: a named table that serves one feature of the same name.

    Packed tables of lists serve one feature a slot, see `models.embeddings.packed`.
    """

    name: str
    """Table and feature name: the field's, or ``field/2`` for its third block."""

    field: str
    num_embeddings: int
    embedding_dim: int
    first_id: int = 0
    """Lowest id of the field that this table covers; id ``i`` has row ``i - first_id``."""
    hashed_ids: int = 0
    """Ids that it covers beyond its rows; rows are then ``(i - first_id) % num_embeddings``."""
    ids_a_row: int = 1
    """Neighbouring ids that share a row: ``(i - first_id) // ids_a_row``, of which the remainder is
    taken where ids are hashed."""

    @property
    def num_ids(self) -> int:
        """Ids that the table covers."""
        return self.num_embeddings + self.hashed_ids

    @property
    def packing(self) -> int:
        """Rows that share one stored row: 4 of width 1, 2 of width 2, otherwise 1."""
        return WIDTH_STEP // self.embedding_dim if self.embedding_dim in PACKED_DIMS else 1

    @property
    def stored(self) -> "Table":
        """The table as kernels hold it, which is what is allocated, sharded and checkpointed.

        A packed table is the matrix of its rows, read on in rows of 4: row ``r`` is in stored row
        ``r // packing``, at column ``r % packing * embedding_dim``. Other tables are as they are.
        """
        if self.packing == 1:
            return self
        return replace(
            self,
            num_embeddings=-(-self.num_embeddings // self.packing),
            embedding_dim=WIDTH_STEP,
        )


@dataclass(frozen=True, kw_only=True)
class SizingPlan:
    """Which blocks every field has, and the width ``out_dim`` that the model sees."""

    fields: Mapping[str, tuple[Block, ...]]
    """Blocks of each field, most frequent ids first; fields in the order of the dataset."""

    out_dim: int
    """``D``: width of every field after projection."""

    join: Join = "project"
    """How the model that the plan is for brings fields together; decides what projections cost."""

    scheme: Mapping[str, object] = field(default_factory=dict)
    """The scheme's own parameters, for the record."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a field got its width, in a few words, for the explain table."""

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("sizing plan: it has no fields; give it at least one")
        for table in self.tables():
            if table.embedding_dim > self.out_dim:
                raise ValueError(
                    f"table {table.name!r}: embedding_dim={table.embedding_dim} exceeds "
                    f"out_dim={self.out_dim}; raise out_dim to {table.embedding_dim} or lower the "
                    f"scheme's max_dim"
                )

    def tables(self) -> Iterator[Table]:
        """Every block of every field as a named table, in the order of the fields."""
        for name, blocks in self.fields.items():
            first_id = 0
            for index, block in enumerate(blocks):
                yield Table(
                    name=name if len(blocks) == 1 else f"{name}/{index}",
                    field=name,
                    num_embeddings=block.num_embeddings,
                    embedding_dim=block.embedding_dim,
                    first_id=first_id,
                    hashed_ids=block.hashed_ids,
                )
                first_id += block.num_ids

    def target_dim(self, table: Table) -> int:
        """Width that a table's vectors have behind its projection or padding."""
        if self.join != "concatenate":
            return self.out_dim
        return max(block.embedding_dim for block in self.fields[table.field])

    def projected_dim(self, table: Table) -> int:
        """Width of a table's projection; 0 where it has none."""
        target = self.target_dim(table)
        return 0 if self.join == "pad" or table.embedding_dim == target else target

    @classmethod
    def one_block_each(
        cls,
        fields: Iterable[FieldStats],
        dims: Mapping[str, int],
        *,
        out_dim: int,
        asked: Mapping[str, float] | None = None,
        scheme: Mapping[str, object] | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> "SizingPlan":
        """Build the ordinary plan: one table a field, ``dims[name]`` wide."""
        blocks = {
            stats.name: (
                Block(
                    num_embeddings=stats.num_embeddings,
                    embedding_dim=dims[stats.name],
                    asked_dim=float((asked or dims)[stats.name]),
                ),
            )
            for stats in fields
        }
        return cls(fields=blocks, out_dim=out_dim, scheme=scheme or {}, reasons=reasons or {})

    def dims(self) -> dict[str, int]:
        """Used width of every table by table name."""
        return {table.name: table.embedding_dim for table in self.tables()}


def check_field_name(name: str) -> None:
    """Refuse a name that no table can have: tables are modules by their field's name.

    Raises:
        ValueError: If torch refuses it as a module's name, or TorchRec would cut it at an @.
    """
    plain = name.replace(".", "_").replace("@", "_")
    if not name or name != plain or name in MODULE_WORDS:
        better = f"{name or 'field'}_id" if name == plain else plain
        raise ValueError(
            f"field {name!r}: tables are modules, and torch takes none of this name, or TorchRec "
            f"cuts it at the @; rename the column, for example to {better}"
        )


def check_fields(fields: Sequence[FieldStats]) -> None:
    """Refuse field sets no scheme can size.

    Raises:
        ValueError: If there is no field, a name occurs twice or is none that a table can have, or
            a field has no rows.
    """
    if not fields:
        raise ValueError("no fields to size; the dataset needs at least one categorical column")
    names = [stats.name for stats in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"fields {twice} occur more than once; give every column its own name")
    for stats in fields:
        check_field_name(stats.name)
        if stats.num_embeddings < 1:
            raise ValueError(
                f"field {stats.name!r}: num_embeddings={stats.num_embeddings}, expected at least 1"
            )
