"""The baseline: every table equally wide."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from models.sizing.base import MAX_WIDTH, check_width
from models.sizing.rounding import Rounding, width_grid
from models.tables import FieldStats, SizingPlan, check_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """Give every field the same width; what all systems do that know only one width."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kind: Literal["uniform"] = "uniform"

    dim: int = 16
    """Width of every table. A budget replaces it by the widest that fits."""

    rounding: Rounding = "mult4"
    """Widths that there are: 1, 2 and multiples of 4, powers of two, or any."""

    def __post_init__(self) -> None:
        check_width("dim", self.dim, self.rounding)

    @property
    def grid(self) -> Sequence[int]:
        """Every width that the rounding gives."""
        return width_grid(self.rounding, 1, MAX_WIDTH)

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Size every field alike; no projection is needed."""
        check_fields(fields)
        return SizingPlan.one_block_each(
            fields,
            {stats.name: self.dim for stats in fields},
            out_dim=self.dim,
            scheme=asdict(self),
            reasons={stats.name: "as wide as every other" for stats in fields},
        )
