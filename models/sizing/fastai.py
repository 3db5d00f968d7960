"""fastai's rule of thumb: the more ids, the wider."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Literal

from models.sizing.base import check_width
from models.sizing.rounding import Rounding, round_up, width_grid
from models.tables import FieldStats, SizingPlan, check_fields


def emb_sz_rule(num_embeddings: int, max_dim: int = 600) -> int:
    """Width that fastai gives a category: ``min(600, round(1.6 * n ** 0.56))``.

    Args:
        num_embeddings: Number of classes, the one for "missing" included.
        max_dim: Cap.

    Source:
        fastai, ``fastai/tabular/model.py``, ``emb_sz_rule``; Python's rounding.
    """
    return min(max_dim, round(1.6 * math.pow(num_embeddings, 0.56)))


@dataclass(frozen=True, kw_only=True, slots=True)
class FastaiRule:
    """Widen a table with its number of ids: ``min(max_dim, round(1.6 * n ** 0.56))``.

    Made for tabular data with few categories. On click logs the largest tables become the widest,
    which is the opposite of what popularity asks for and mostly dearer than one width for all.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kind: Literal["fastai"] = "fastai"

    max_dim: int = 600
    """Cap of the rule."""

    overrides: Mapping[str, int] = field(default_factory=dict)
    """Asked width by field name, as fastai's ``sz_dict``: neither the rule nor the cap applies."""

    rounding: Rounding = "mult4"
    """Up to which widths the rule's integers are rounded: 1, 2 and multiples of 4, powers of two,
    or as they are."""

    def __post_init__(self) -> None:
        check_width("max_dim", self.max_dim, self.rounding)
        for name, dim in self.overrides.items():
            if dim < 1:
                raise ValueError(f"overrides: field {name!r} has width {dim}, expected at least 1")

    @property
    def grid(self) -> Sequence[int]:
        """Every width up to the cap, or to a wider override."""
        return width_grid(self.rounding, 1, self._widest)

    @property
    def _widest(self) -> int:
        return max([self.max_dim, *(round_up(d, self.rounding) for d in self.overrides.values())])

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Ask for the rule's integer and round it up."""
        check_fields(fields)
        rows = {stats.name: stats.num_embeddings for stats in fields}
        if unknown := sorted(set(self.overrides) - set(rows)):
            raise ValueError(
                f"overrides name {unknown}, which are not among the fields; fields: {list(rows)}"
            )
        asked = {n: self.overrides.get(n, emb_sz_rule(rows[n], self.max_dim)) for n in rows}
        used = {name: round_up(dim, self.rounding) for name, dim in asked.items()}
        return SizingPlan.one_block_each(
            fields,
            used,
            out_dim=max(used.values()),
            asked=asked,
            scheme=asdict(self),
            reasons={name: self._reason(name, rows[name]) for name in rows},
        )

    def _reason(self, name: str, num_embeddings: int) -> str:
        if name in self.overrides:
            return "override"
        wish = 1.6 * math.pow(num_embeddings, 0.56)
        note = f"1.6 * {num_embeddings}^0.56 = {wish:.1f}"
        return f"{note}, capped" if round(wish) > self.max_dim else note
