"""The choice of a super-net, readable without torch; see `models.embeddings.choices`."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.embeddings.choice import Alternation, Surroundings
from models.layout import Layout, TableLayout
from models.search.nis_options import Sizes
from models.tables import PACKED_DIMS, WIDTH_STEP, SizingPlan

if TYPE_CHECKING:
    from models.embeddings.base import FieldEmbeddings

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptEmbedChoice:
    """OptEmbed's super-net: every example is shown random prefixes of its fields' vectors."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    alternation: ClassVar[None] = None
    keeps_vectors: ClassVar[bool] = True

    kind: Literal["optembed"] = "optembed"

    candidates: tuple[int, ...] = (1, 2, 4, 8, 12, 16)
    """Widths of prefixes, rising; 1, 2 and multiples of 4, up to that of the plan's tables."""

    def __post_init__(self) -> None:
        check_candidates(self.candidates)

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in: those of the plan.

        Raises:
            ValueError: If fields are not one table each, all as wide as the model's vectors.
        """
        check_uniform(plan, "OptEmbed")
        if self.candidates[-1] > plan.out_dim:
            raise ValueError(
                f"candidates={self.candidates}, and the tables of the sizing plan are "
                f"{plan.out_dim} wide; leave the wider ones out, or size wider"
            )
        return plan

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module."""
        from models.search.optembed import OptEmbedEmbeddings

        self.layout(given.plan)
        return OptEmbedEmbeddings(given, self.candidates)


@dataclass(frozen=True, kw_only=True, slots=True)
class NISChoice:
    """NIS's super-net: a controller draws how many rows and columns of every table there are."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    keeps_vectors: ClassVar[bool] = False

    kind: Literal["nis"] = "nis"

    sizes: Sizes = "multi"
    """``single``: all ids of a field that have a row have equally wide ones; ``multi``: frequent
    ids may have wider ones."""

    column_blocks: int = 4
    """Blocks that columns are cut into; the plan says into which rows are."""

    budget_ratio: float = 1.0
    """Share of all weights that costs no reward."""

    penalty: float = 0.1
    """Reward that exceeding this share by as much again costs."""

    alternation: Alternation = field(default_factory=partial(Alternation, weight_steps=1, lr=0.01))
    """When the controller learns, from which examples, and how fast."""

    def __post_init__(self) -> None:
        if self.column_blocks < 1:
            raise ValueError(f"column_blocks={self.column_blocks}, expected at least 1; try 4")
        if not 0 < self.budget_ratio <= 1:
            raise ValueError(f"budget_ratio={self.budget_ratio}, expected in (0, 1]; try 0.25")
        if self.penalty < 0:
            raise ValueError(f"penalty={self.penalty}, expected 0 or more; try 0.1")

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in: those of the plan.

        Raises:
            ValueError: If a table is narrower than the model's vectors, ids share rows, or columns
                cannot be cut.
        """
        width = plan.out_dim
        if width % self.column_blocks or width % WIDTH_STEP:
            raise ValueError(
                f"tables of {width} columns cannot be cut into {self.column_blocks} blocks; give a "
                f"multiple of {WIDTH_STEP}, and column_blocks that divide it"
            )
        for table in plan.tables():
            if table.embedding_dim != width or table.hashed_ids:
                raise ValueError(
                    f"table {table.name!r} of the sizing plan is {table.embedding_dim} wide for "
                    f"{table.num_ids} ids; NIS searches below tables of {width} with a row an id"
                )
        return plan

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module."""
        from models.search.nis import NISEmbeddings

        self.layout(given.plan)
        return NISEmbeddings(
            given,
            sizes=self.sizes,
            column_blocks=self.column_blocks,
            budget_ratio=self.budget_ratio,
            penalty=self.penalty,
            pretrain_examples=self.alternation.pretrain_examples,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoEmbChoice:
    """AutoEmb's super-net: a soft choice among widths for every id, by how popular it is."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    keeps_vectors: ClassVar[bool] = False

    kind: Literal["autoemb"] = "autoemb"

    candidates: tuple[int, ...] = (2, 8, 16)
    """Widths to choose from, rising; 1, 2 and multiples of 4. The last one, of at least 4, is that
    of the sizing plan's tables."""

    alternation: Alternation = field(default_factory=partial(Alternation, weight_steps=1))
    """When the controllers learn, from which examples, and how fast."""

    def __post_init__(self) -> None:
        check_candidates(self.candidates, least=2)
        if self.candidates[-1] < WIDTH_STEP:
            raise ValueError(
                f"candidates={self.candidates}, expected the last one to be a multiple of "
                f"{WIDTH_STEP}; try 1 2 4"
            )

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in: one a field and candidate.

        Raises:
            ValueError: If a field of the plan is not one table as wide as the last candidate.
        """
        check_uniform(plan, "AutoEmb")
        if plan.out_dim != self.candidates[-1]:
            raise ValueError(
                f"candidates={self.candidates}, and the tables of the sizing plan are "
                f"{plan.out_dim} wide; expected {plan.out_dim} as the last candidate"
            )
        return separate_tables(plan, self.candidates)

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module."""
        from models.search.autoemb import AutoEmbEmbeddings
        from models.search.popularity_runs import runs_of

        known = [stats for stats in given.fields if stats.name in given.plan.fields]
        return AutoEmbEmbeddings(self.layout(given.plan), self.candidates, runs_of(known), given)


def separate_tables(plan: SizingPlan, candidates: tuple[int, ...]) -> TableLayout:
    """A table of its own for every candidate of every field."""
    return TableLayout(
        fields=tuple(plan.fields),
        of_fields=tuple(
            replace(table, name=f"{table.field}~{width}", embedding_dim=width)
            for table in plan.tables()
            for width in candidates
        ),
    )


def check_candidates(candidates: tuple[int, ...], least: int = 1) -> None:
    """Refuse widths that tables cannot have, or that do not rise.

    Raises:
        ValueError: If they do not, or are fewer than ``least``.
    """
    odd = [d for d in candidates if d < 1 or (d % WIDTH_STEP and d not in PACKED_DIMS)]
    if len(candidates) < least or odd or list(candidates) != sorted(set(candidates)):
        raise ValueError(
            f"candidates={candidates}, expected {least} or more rising widths, each 1, 2 or a "
            f"multiple of {WIDTH_STEP}; try 2 8 16"
        )


def check_uniform(plan: SizingPlan, method: str) -> None:
    """Refuse plans other than one table a field, all as wide as the model's vectors.

    Raises:
        ValueError: If a table is a block, or narrower.
    """
    for table in plan.tables():
        if table.name != table.field or table.embedding_dim != plan.out_dim:
            raise ValueError(
                f"table {table.name!r} of the sizing plan is {table.embedding_dim} wide; {method} "
                f"searches below one table of {plan.out_dim} a field: mixdim size --scheme uniform "
                f"--dim {plan.out_dim}"
            )
