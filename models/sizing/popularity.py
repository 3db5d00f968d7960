"""Mixed dimensions by popularity: rows that are read often deserve more width."""

# n rows of a table, p lookups per row, B budget in parameters; the paper's letters.

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from models.sizing.base import check_width
from models.sizing.rounding import Rounding, round_dim, width_grid
from models.tables import FieldStats, SizingPlan, check_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class PopularityRule:
    """Give frequently read rows more width: ``dim_f = max_dim * (p_f / p_max) ** alpha``.

    ``p_f`` is the mean number of lookups per *row*. (The paper's text says the share of lookups,
    which would make all blocks of equal mass equally wide; its code and figures use per row.)

    Source:
        Ginart et al., *Mixed Dimension Embeddings*, ISIT 2021, arXiv:1909.11810, Alg. 3.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kind: Literal["popularity"] = "popularity"

    max_dim: int = 64
    """Width of the most popular field, and the cap under a budget."""

    alpha: float = 0.3
    """Temperature in [0, 1]: how strongly width follows popularity; 0 is uniform."""

    n_floor: int = 1
    """Tables with fewer rows count as this many, so that a table of 3 rows sets no one's width."""

    min_dim: int = 1
    """Narrowest width."""

    rounding: Rounding = "mult4"
    """Widths that there are: 1, 2 and multiples of 4, powers of two, or any."""

    def __post_init__(self) -> None:
        check_width("max_dim", self.max_dim, self.rounding)
        check_width("min_dim", self.min_dim, self.rounding)
        if self.min_dim > self.max_dim:
            raise ValueError(
                f"min_dim={self.min_dim} exceeds max_dim={self.max_dim}; lower min_dim"
            )
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha}, expected 0 (uniform) to 1; try 0.3")
        if self.n_floor < 1:
            raise ValueError(f"n_floor={self.n_floor}, expected at least 1 row; try 200")

    @property
    def grid(self) -> Sequence[int]:
        """Every width from the narrowest to the cap."""
        return width_grid(self.rounding, self.min_dim, self.max_dim)

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Size each field relative to the most popular one, one block a field."""
        check_fields(fields)
        popularity = {
            stats.name: stats.num_lookups / max(stats.num_embeddings, self.n_floor)
            for stats in fields
        }
        highest = max(popularity.values())
        if highest <= 0:
            raise ValueError(
                "no field is ever looked up in the training split, so none is popular; "
                "size with the scheme 'uniform', or prepare more rows"
            )
        asked = popularity_dims(list(popularity.values()), self.alpha, self.max_dim)
        dims = dict(zip(popularity, asked, strict=True))
        return SizingPlan.one_block_each(
            fields,
            {name: round_dim(dim, self.grid, self.rounding) for name, dim in dims.items()},
            out_dim=self.max_dim,
            asked=dims,
            scheme=asdict(self),
            reasons={
                name: f"{p:,.4g} lookups a row, {p / highest:.2g} of the most"
                for name, p in popularity.items()
            },
        )


def popularity_dims(popularity: Sequence[float], alpha: float, base_dim: float) -> list[float]:
    """Unrounded widths of tables by their lookups per row; the most popular gets ``base_dim``."""
    highest = max(popularity)
    return [base_dim * math.pow(p / highest, alpha) for p in popularity]


def scale_without_projections(
    num_embeddings: Sequence[int], popularity: Sequence[float], alpha: float, budget_params: float
) -> float:
    """Factor ``s`` for which ``dim = s * p ** alpha`` spends the budget on embeddings alone.

    The paper's printed formula, ``B / sum(p ** (alpha - 1))``, is this one for ``p = 1 / n`` only.
    """
    weights = (n * math.pow(p, alpha) for n, p in zip(num_embeddings, popularity, strict=True))
    return budget_params / math.fsum(weights)


def scale_with_projections(
    num_embeddings: Sequence[int], popularity: Sequence[float], alpha: float, budget_params: float
) -> float:
    """Factor ``s`` for which embeddings and projections to the widest table spend the budget.

    With ``dim = s * p ** alpha`` embeddings cost ``S1 * s`` and projections ``S2 * s ** 2``.
    """
    shape = [math.pow(p, alpha) for p in popularity]
    linear = math.fsum(n * q for n, q in zip(num_embeddings, shape, strict=True))
    widest = max(shape)
    quadratic = widest * (math.fsum(shape) - shape.count(widest) * widest)
    if quadratic <= 0:
        return budget_params / linear
    root = math.sqrt(linear * linear + 4 * quadratic * budget_params)
    return (root - linear) / (2 * quadratic)
