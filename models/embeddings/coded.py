"""The choice of rows that are replaced by codes: a few small numbers, and what they stand for.

Codes and their values are what is served. Training has the tables of the sizing plan as well, whole
and with their optimizer's state: it takes no less memory than without codes.
"""

# Legend:  n ids, d width, G groups of a vector, K codes of a group

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.embeddings.choice import Surroundings
from models.layout import Layout
from models.tables import FLOAT_BYTES, SizingPlan, Table

if TYPE_CHECKING:
    from models.embeddings.base import FieldEmbeddings

Variant = Literal["vq", "sx"]
"""How a code is chosen: the nearest key, which is its value too; or the largest product with a key,
whose value is another vector."""

MOST_CODES = 256
"""A code is held in a byte while it is worked with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tier:
    """Ids that are next to each other by frequency, and choose among equally many codes."""

    num_ids: int
    num_codes: int

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return (self.num_codes - 1).bit_length()

    def num_bytes(self, groups: int) -> int:
        """Bytes of all codes, packed without gaps."""
        return -(-self.num_ids * groups * self.code_bits // 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Coded(ABC):
    """What both choices have."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    alternation: ClassVar[None] = None
    keeps_vectors: ClassVar[bool] = False

    groups: int = 4
    """Parts of a vector that have codes of their own; a divisor of the width."""

    shares_groups: bool = False
    """Whether all parts of a vector have the same keys and values."""

    whole_fields: tuple[str, ...] = ()
    """Fields that stay ordinary tables. Lists must: codes are chosen id by id, and of a list only
    the sum of its vectors is known. Tables that codes would not make smaller stay by themselves."""

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in: those of the plan.

        Raises:
            ValueError: If a field of the plan is not one ordinary table as wide as the others, or
                no whole number of groups wide.
        """
        for table in plan.tables():
            if table.name != table.field or table.hashed_ids or table.embedding_dim != plan.out_dim:
                raise ValueError(
                    f"table {table.name!r} of the sizing plan is a block, has hashed ids or is "
                    f"narrower than {plan.out_dim}; codes replace one table a field, all equally "
                    f"wide: mixdim size --scheme uniform"
                )
            if table.packing > 1 or table.embedding_dim % self.groups:
                raise ValueError(
                    f"table {table.name!r}: embedding_dim={table.embedding_dim}, expected a "
                    f"multiple of 4 and of groups={self.groups}; choose groups among its divisors"
                )
        return plan

    def coded(self, plan: SizingPlan) -> list[Table]:
        """The tables whose rows are replaced by codes."""
        return [
            table
            for table in self.layout(plan).tables()
            if table.field not in self.whole_fields
            and self.table_bytes(table) < FLOAT_BYTES * table.num_embeddings * table.embedding_dim
        ]

    @abstractmethod
    def tiers(self, num_ids: int) -> tuple[Tier, ...]:
        """Ids of a field by how many codes they choose among."""

    @property
    @abstractmethod
    def most_codes(self) -> int:
        """Codes of a group."""

    @property
    def matrices(self) -> int:
        """Keys, and values where these are others."""
        return 1

    def book_weights(self, dim: int) -> int:
        """Weights of a field's values: a code's, of every group."""
        return self.most_codes * dim // (self.groups if self.shares_groups else 1)

    def table_bytes(self, table: Table) -> int:
        """Bytes that a coded table is exported in: its codes and their values."""
        codes = sum(tier.num_bytes(self.groups) for tier in self.tiers(table.num_embeddings))
        return codes + FLOAT_BYTES * self.book_weights(table.embedding_dim)

    def serving_bytes(self, plan: SizingPlan) -> int:
        """Bytes of all that is exported: codes, values, and tables that stay as they are."""
        coded = {table.name: self.table_bytes(table) for table in self.coded(plan)}
        return sum(
            coded.get(t.name, FLOAT_BYTES * t.num_embeddings * t.embedding_dim)
            for t in plan.tables()
        )

    def num_others(self, plan: SizingPlan) -> int:
        """Weights that training has beside the tables: keys and values."""
        return sum(
            self.matrices * self.book_weights(table.embedding_dim) for table in self.coded(plan)
        )

    def _check_groups(self) -> None:
        if self.groups < 1:
            raise ValueError(f"groups={self.groups}, expected at least 1; try 4")

    def _tables_to_code(self, given: Surroundings) -> list[Table]:
        coded = self.coded(given.plan)
        if lists := [table.field for table in coded if table.field in given.pooling]:
            raise ValueError(
                f"fields {lists} are lists, whose ids have no codes once they are pooled; name "
                f"them in whole_fields, and they stay ordinary tables"
            )
        if not coded:
            raise ValueError(
                f"codes would make no table smaller, and those of lists stay as they are; take "
                f"fewer codes, or fewer groups than {self.groups}, or embeddings of kind 'mixed'"
            )
        return coded


@dataclass(frozen=True, kw_only=True, slots=True)
class DPQChoice(_Coded):
    """Differentiable product quantization: every row becomes a few codes, learned end to end."""

    kind: Literal["dpq"] = "dpq"

    variant: Variant = "vq"
    """By distance, the values being the keys; or by products, with values of their own."""

    codes: int = 16
    """Keys a group: a power of two, 2 to 256."""

    temperature: float = 1.0
    """Of the softmax behind which products are learned; ``sx`` alone."""

    def __post_init__(self) -> None:
        self._check_groups()
        check_codes("codes", self.codes)
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature}, expected above 0; try 1")

    def tiers(self, num_ids: int) -> tuple[Tier, ...]:
        """All ids alike."""
        return (Tier(num_ids=num_ids, num_codes=self.codes),)

    @property
    def most_codes(self) -> int:
        """Codes of a group."""
        return self.codes

    @property
    def matrices(self) -> int:
        """Keys, and values where these are others."""
        return 2 if self.variant == "sx" else 1

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module.

        Raises:
            ValueError: If ids of a list would need codes.
        """
        from models.embeddings.dpq import DPQEmbeddings

        return DPQEmbeddings(self, self._tables_to_code(given), given)


@dataclass(frozen=True, kw_only=True, slots=True)
class MGQEChoice(_Coded):
    """Multi-granular quantized embeddings: rare ids choose among the first of the codes only."""

    kind: Literal["mgqe"] = "mgqe"
    variant: ClassVar[Variant] = "vq"
    temperature: ClassVar[float] = 1.0

    codes: int = 256
    """Keys a group, of which frequent ids choose one: a power of two, 2 to 256."""

    tail_codes: int = 64
    """Keys, the first ones, of which rare ids choose one: a power of two, below ``codes``."""

    head_ratio: float = 0.1
    """Share of ids that count as frequent; in (0, 1)."""

    def __post_init__(self) -> None:
        self._check_groups()
        check_codes("codes", self.codes)
        check_codes("tail_codes", self.tail_codes)
        if self.tail_codes >= self.codes:
            raise ValueError(
                f"tail_codes={self.tail_codes}, expected less than codes={self.codes}; dpq has "
                f"equally many for all ids"
            )
        if not 0 < self.head_ratio < 1:
            raise ValueError(f"head_ratio={self.head_ratio}, expected between 0 and 1; try 0.1")

    def tiers(self, num_ids: int) -> tuple[Tier, ...]:
        """Frequent ids, and the others; ids are ranks, so that no bit says which an id is."""
        head = ceil(num_ids * self.head_ratio)
        return (
            Tier(num_ids=head, num_codes=self.codes),
            Tier(num_ids=num_ids - head, num_codes=self.tail_codes),
        )

    @property
    def most_codes(self) -> int:
        """Codes of a group."""
        return self.codes

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module.

        Raises:
            ValueError: If ids of a list would need codes.
        """
        from models.embeddings.dpq import DPQEmbeddings

        return DPQEmbeddings(self, self._tables_to_code(given), given)


CodedChoice = DPQChoice | MGQEChoice


def check_codes(name: str, codes: int) -> None:
    """Refuse numbers of codes that leave part of a bit unused, or need more than a byte.

    Raises:
        ValueError: If it is no power of two from 2 to 256.
    """
    if not 2 <= codes <= MOST_CODES or codes & (codes - 1):
        nearest = min(MOST_CODES, 1 << max(1, (codes - 1).bit_length()))
        raise ValueError(
            f"{name}={codes}, expected a power of two from 2 to {MOST_CODES}; try {nearest}"
        )
