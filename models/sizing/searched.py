"""Widths that a search has found by training."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from models.sizing.base import MAX_WIDTH
from models.sizing.rounding import round_up, width_grid
from models.tables import Block, FieldStats, SizingPlan, check_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """Ask for what a search has found, and under a budget for what is worth most."""

    kind: Literal["searched"] = "searched"

    method: str
    """Which search."""

    asked: Mapping[str, float]
    """Width of every field by the method's own rule, before kernels and budget."""

    worth: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """By field, what every width it may have is worth, comparable across fields; without any a
    budget goes by the shape of what is asked."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a field is as wide as it is, in a few words."""

    @property
    def grid(self) -> Sequence[int]:
        """Widths that some field may have."""
        found = sorted({width for widths in self.worth.values() for width in widths})
        return found or width_grid("mult4", 1, MAX_WIDTH)

    def values(self, plan: SizingPlan) -> Mapping[str, Mapping[int, float]]:
        """By table name, what every width is worth; fields have one table each."""
        return {name: worth for name, worth in self.worth.items() if name in plan.fields}

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Size every field as the search has found.

        Raises:
            ValueError: If the search knows nothing of a field.
        """
        check_fields(fields)
        _check_known(self.method, fields, self.asked)
        dims = {stats.name: round_up(self.asked[stats.name]) for stats in fields}
        return SizingPlan.one_block_each(
            fields,
            dims,
            out_dim=max(dims.values()),
            asked=self.asked,
            scheme={"kind": self.kind, "method": self.method},
            reasons={name: self.reasons.get(name, "") for name in dims},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedBlocks:
    """Ask for the blocks that a search has found, as they are."""

    kind: Literal["searched"] = "searched"

    method: str
    """Which search."""

    blocks: Mapping[str, tuple[Block, ...]]
    """Of every field."""

    out_dim: int
    """Width of the vectors behind projection or padding."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a field has its blocks, in a few words."""

    @property
    def grid(self) -> Sequence[int]:
        """Widths that a block may have."""
        return width_grid("mult4", 1, MAX_WIDTH)

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Cut every field as the search has found.

        Raises:
            ValueError: If the search knows nothing of a field.
        """
        check_fields(fields)
        _check_known(self.method, fields, self.blocks)
        return SizingPlan(
            fields={stats.name: self.blocks[stats.name] for stats in fields},
            out_dim=self.out_dim,
            scheme={"kind": self.kind, "method": self.method},
            reasons={stats.name: self.reasons.get(stats.name, "") for stats in fields},
        )


def _check_known(method: str, fields: Sequence[FieldStats], known: Container[str]) -> None:
    if missing := [stats.name for stats in fields if stats.name not in known]:
        raise ValueError(
            f"the {method} search knows nothing of the fields {missing}; search again with these "
            f"fields"
        )
