"""The choice of tables with holes: weights that are zero and stay so while the others learn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.embeddings.choice import Surroundings
from models.layout import Layout
from models.tables import SizingPlan

if TYPE_CHECKING:
    from models.embeddings.base import FieldEmbeddings


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedChoice:
    """The tables of the sizing plan without their small weights, which stay 0 in training."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    alternation: ClassVar[None] = None
    keeps_vectors: ClassVar[bool] = True

    kind: Literal["pruned"] = "pruned"

    thresholds: Mapping[str, float] = field(default_factory=dict)
    """By field: weights that are smaller than this in the run ``warm_start`` are 0. Fields that are
    not named stay whole; lists must, for behind their sum nobody knows which of the ids' weights
    are 0."""

    start: Literal["warm", "fresh"] = "warm"
    """What the other weights start as: as in that run, or as they would without it."""

    def __post_init__(self) -> None:
        for name, threshold in self.thresholds.items():
            if not 0 < threshold < math.inf:
                raise ValueError(
                    f"thresholds: {name}={threshold}, expected a positive number; leave the field "
                    f"out to keep it whole"
                )

    def layout(self, plan: SizingPlan) -> Layout:
        """The tables that ids are looked up in: those of the plan.

        Raises:
            ValueError: If a field is named that the plan has not.
        """
        if unknown := sorted(self.thresholds.keys() - plan.fields.keys()):
            raise ValueError(
                f"thresholds: {unknown} are not fields of the sizing plan, which has "
                f"{', '.join(plan.fields)}"
            )
        return plan

    def build(self, given: Surroundings) -> "FieldEmbeddings":
        """Make the module.

        Raises:
            ValueError: If a field of lists is to be pruned.
        """
        from models.embeddings.pruned import PrunedEmbeddings

        if lists := sorted(self.thresholds.keys() & given.pooling.keys()):
            raise ValueError(
                f"thresholds: {lists} are fields of lists, of which only sums are known behind the "
                f"lookup; leave them out, and they stay whole"
            )
        self.layout(given.plan)
        return PrunedEmbeddings(self.thresholds, given)
