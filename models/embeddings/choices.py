"""The choice of what looks ids up, readable without torch.

Add a kind: one file with a `FieldEmbeddings`, one dataclass here, one name in `Embeddings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Literal, get_args

from pydantic import ConfigDict

from models.embeddings.choice import Alternation, Surroundings
from models.embeddings.coded import DPQChoice, MGQEChoice
from models.embeddings.pruning import PrunedChoice
from models.embeddings.quotients import QuotientRemainderChoice
from models.layout import Layout
from models.search.choices import AutoEmbChoice, NISChoice, OptEmbedChoice, separate_tables
from models.tables import PACKED_DIMS, WIDTH_STEP, SizingPlan

if TYPE_CHECKING:
    from models.embeddings.base import FieldEmbeddings

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedChoice:
    """The tables of the sizing plan, each as wide as it says."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    alternation: ClassVar[None] = None
    keeps_vectors: ClassVar[bool] = True
    """Whether a field's vectors are those of the plan's tables, behind projection or padding."""

    kind: Literal["mixed"] = "mixed"

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in."""
        return plan

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module."""
        from models.embeddings.mixed import MixedEmbeddings

        return MixedEmbeddings(
            given.plan,
            pooling=given.pooling,
            projection_init=given.projection_init,
            device=given.device,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoDimChoice:
    """AutoDim's super-net: a soft choice among widths for every field, learned by gradients."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    keeps_vectors: ClassVar[bool] = False

    kind: Literal["autodim"] = "autodim"

    candidates: tuple[int, ...] = (2, 8, 16, 24, 32)
    """Widths to choose from, rising; 1, 2 and multiples of 4. The last one is that of the sizing
    plan's tables."""

    tables: Literal["shared", "separate"] = "shared"
    """One table a field, whose first columns are the narrow candidates, or one a candidate."""

    unify: Literal["linear", "pad"] = "linear"
    """How candidates become equally wide: by a matrix each, which all fields share, and batch
    normalisation; or normalised and padded with zeros."""

    decay: float = 5e-5
    """Fall of the temperature of the choice for every 2,000 examples, from 1 down to 0.01."""

    alternation: Alternation = field(default_factory=Alternation)
    """When the choice learns, from which examples, and how fast."""

    def __post_init__(self) -> None:
        odd = [d for d in self.candidates if d % WIDTH_STEP and d not in PACKED_DIMS]
        is_rising = list(self.candidates) == sorted(set(self.candidates))
        if len(self.candidates) < 2 or odd or not is_rising or min(self.candidates) < 1:
            raise ValueError(
                f"candidates={self.candidates}, expected two or more rising widths, each 1, 2 or a "
                f"multiple of {WIDTH_STEP}; try 2 8 16 24 32"
            )
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay}, expected in [0, 1); try 5e-5")

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in.

        Raises:
            ValueError: If a field of the plan is not one table as wide as the last candidate.
        """
        widest = self.candidates[-1]
        for table in plan.tables():
            if table.name != table.field or table.embedding_dim != widest:
                raise ValueError(
                    f"table {table.name!r} of the sizing plan is {table.embedding_dim} wide; "
                    f"AutoDim searches below one table of {widest} a field, its last candidate: "
                    f"mixdim size --scheme uniform --dim {widest}"
                )
        if self.tables == "shared":
            return plan
        return separate_tables(plan, self.candidates)

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module."""
        from models.search.autodim import AutoDimEmbeddings

        return AutoDimEmbeddings(
            self.layout(given.plan),
            self.candidates,
            pads=self.unify == "pad",
            decay=self.decay,
            pretrain_examples=self.alternation.pretrain_examples,
            pooling=given.pooling,
            device=given.device,
        )


# Add a kind: one file, one name here.
Embeddings = (
    MixedChoice
    | AutoEmbChoice
    | NISChoice
    | AutoDimChoice
    | OptEmbedChoice
    | QuotientRemainderChoice
    | DPQChoice
    | MGQEChoice
    | PrunedChoice
)

EMBEDDINGS: Final[Mapping[str, type[Embeddings]]] = MappingProxyType(
    {choice.__dataclass_fields__["kind"].default: choice for choice in get_args(Embeddings)}
)
