"""Width by what a warm-up run has learned: as many directions as save loss on held-out examples.

A short training with equally wide tables gives every field's vectors. Two second moments say what
they are used for: that of the vectors, each id weighted by its lookups, and that of the model's
gradient with respect to them. Together they order the directions of a field's vectors by the share
of the model's output that they carry. What a direction is *worth* is then measured where it has not
been learned: by how much the loss of validation examples rises without it. That tells what is known
of an id from the noise it started with and from the noise it was fitted to, both of which fill
every direction and make plain singular values useless for ids that are rare.
"""

# Legend:  n ids, D width of the warm-up's vectors, k directions that are kept

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.sizing.base import MAX_WIDTH
from models.sizing.rounding import Rounding, round_up, width_grid
from models.tables import FieldStats, SizingPlan, check_fields

Floats = NDArray[np.float64]

CHUNK_ROWS: Final = 1 << 16
"""Rows that are turned into float64 at a time."""
TRIFLE: Final = 1e-3
"""Loss that a unit of squared score counts for where no saving is seen; up to 1/8 were it all of
use, in log loss."""
SMALLEST_RATIO: Final = 1e-10
"""Eigenvalues below this share of the largest are rounding errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spectral:
    """Give every field the directions that a warm-up run shows it to use."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kind: Literal["spectral"] = "spectral"

    energy: float = 0.99
    """Share of what all tables save of the loss that is kept where no budget decides; in (0, 1]."""

    enough: float = 0.999
    """Share of it for which a budget is spent; in (0, 1]. What is left of a budget then stays
    unspent, as directions of no use do harm: they are fitted to noise. 1 spends it all."""

    warm_up: str = ""
    """Run folder that the spectra are measured on."""

    warm_up_seconds: float = 0.0
    """What that run took, so that comparisons can count it."""

    warm_up_examples: int = 0
    """Examples it was trained on."""

    rounding: Rounding = "mult4"
    """Widths that tables can have: 1, 2 and multiples of 4, powers of two, or all."""

    spectra: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Loss that every direction of a field's vectors saves, in the order in which they are kept."""

    def __post_init__(self) -> None:
        for name, usual in (("energy", 0.99), ("enough", 0.999)):
            if not 0 < (share := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={share}, expected in (0, 1]; try {usual}")
        for name, spectrum in self.spectra.items():
            if not len(spectrum) or min(spectrum) < 0:
                raise ValueError(
                    f"spectrum of field {name!r} is {list(spectrum)}, expected numbers of 0 or "
                    f"more; measure it again: mixdim size --scheme spectral --warm-up RUN"
                )

    @property
    def grid(self) -> Sequence[int]:
        """Every width that the rounding gives."""
        return width_grid(self.rounding, 1, MAX_WIDTH)

    def values(self, plan: SizingPlan) -> dict[str, dict[int, float]]:
        """By table name, the loss that every width saves; no wider than the warm-up was.

        Beyond the width that saves enough a wider one is worth no more, and is chosen where it
        costs less: the full width needs no projection.
        """
        kept = {table.name: kept_energy(self.spectra[table.name]) for table in plan.tables()}
        ranks = _ranks(kept, self.enough)
        return {name: _worth(of, self.grid, max(1, ranks[name])) for name, of in kept.items()}

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Size every field by the narrowest width that loses no more than its share.

        Raises:
            ValueError: If a field has not been measured.
        """
        check_fields(fields)
        if missing := [stats.name for stats in fields if stats.name not in self.spectra]:
            raise ValueError(
                f"scheme spectral knows nothing of the fields {missing}; measure them on a short "
                f"uniform training: mixdim size DATA --scheme spectral --warm-up RUN"
            )
        kept = {stats.name: kept_energy(self.spectra[stats.name]) for stats in fields}
        total = float(sum(of[-1] for of in kept.values()))
        ranks = _ranks(kept, self.energy)
        dims = {name: round_up(rank, self.rounding) for name, rank in ranks.items()}
        return SizingPlan.one_block_each(
            fields,
            dims,
            out_dim=max(dims.values()),
            asked={name: float(rank) for name, rank in ranks.items()},
            scheme=asdict(self),
            reasons={name: _reason(kept[name], ranks[name], total) for name in kept},
        )


def kept_energy(spectrum: Sequence[float]) -> Floats:
    """What widths of 0, 1, 2, ... keep of a field's energy ``(D + 1,)``."""
    return np.concatenate([[0.0], np.cumsum(np.asarray(spectrum, dtype=np.float64))])


def effective_rank(kept: Floats, slack: float) -> int:
    """Narrowest width that loses no more than ``slack``; 0 where even nothing loses no more."""
    return int(np.argmax(kept >= kept[-1] - slack))


def _ranks(kept: Mapping[str, Floats], share: float) -> dict[str, int]:
    """Narrowest widths that together keep a share; every table may lose as much as any other."""
    slack = (1 - share) * sum(float(of[-1]) for of in kept.values()) / len(kept)
    return {name: effective_rank(of, slack) for name, of in kept.items()}


def _worth(kept: Floats, grid: Sequence[int], rank: int) -> dict[int, float]:
    """What the widths of a grid keep; none counts for more than the first that holds a rank."""
    last = len(kept) - 1
    most = min(last, next(width for width in grid if width >= rank))
    return {
        width: float(kept[min(width, most)])
        for before, width in pairwise((0, *grid))
        if before < last
    }


def _reason(kept: Floats, rank: int, total: float) -> str:
    share = kept[-1] / total if total else 0.0
    ratio = kept[rank] / kept[-1] if kept[-1] else 1.0
    return f"effective rank {rank} of {len(kept) - 1}, keeps {ratio:.1%}; {share:.2g} of all energy"


def second_moment(pieces: Iterable[tuple[NDArray[np.float32], NDArray[np.int64]]]) -> Floats:
    """Sum over ids of lookups times the vector's outer product ``(D, D)``, in float64.

    Args:
        pieces: Vectors ``(n, D)`` and lookups ``(n,)``; only a chunk is in float64 at a time.

    Raises:
        ValueError: If there is no piece.
    """
    total: Floats | None = None
    for vectors, lookups in pieces:
        for first in range(0, len(vectors), CHUNK_ROWS):
            chunk = vectors[first : first + CHUNK_ROWS].astype(np.float64)
            weighted = chunk * lookups[first : first + CHUNK_ROWS, None]
            moment = weighted.T @ chunk
            total = moment if total is None else total + moment
    if total is None:
        raise ValueError("second moment of no vectors; expected at least one piece")
    return total


def directions(moment: Floats, sensitivity: Floats | None = None) -> tuple[Floats, Floats]:
    """Order the directions of a field's vectors by how much of the model's output they carry.

    Of all matrices of rank ``k``, ``down[:, :k] @ up[:k]`` is the one that changes ``E @ gradient``
    least, in the mean of squares, where vectors and gradients are independent: the truncated SVD of
    the weighted table, measured in the metric of the model.

    Args:
        moment: Second moment of the vectors, `second_moment`.
        sensitivity: Second moment of the gradients; the identity by default, which gives the
            truncated SVD itself.

    Returns:
        ``down`` and ``up``, both ``(D, D)`` and inverse to each other. A table of width ``k`` is
        ``E @ down[:, :k]``, its projection is ``up[:k]``.
    """
    root, inverse = _roots(np.eye(len(moment)) if sensitivity is None else sensitivity)
    _, axes = np.linalg.eigh(root @ moment @ root)
    axes = axes[:, ::-1]
    # An eigenvector's sign is free; fix it, so that all libraries and machines agree.
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(len(axes))] < 0, -1.0, 1.0)
    return root @ axes, axes.T @ inverse


def balanced_pair(first: Floats, second: Floats, width: int) -> tuple[Floats, Floats]:
    """Turn two fields so that ``width`` of ``D`` columns keep their dots best.

    The truncated SVD of the matrix of all dots, each weighted by the lookups of both ids, from the
    fields' second moments alone. What remains of a direction is as long in one field as in the
    other.

    Args:
        first: Second moment of one field's vectors.
        second: Of the other's.
        width: Columns that are kept.

    Returns:
        For each field ``(D, width)``, what its vectors are multiplied with.
    """
    down, up = directions(first, second)
    left, right = down[:, :width], up[:width].T
    lengths = [
        np.sqrt(np.maximum(np.einsum("dk,de,ek->k", turn, moment, turn), 0.0))
        for turn, moment in ((left, first), (right, second))
    ]
    shortest = SMALLEST_RATIO * max(float(length.max()) for length in lengths) or 1.0
    ratio = np.sqrt(np.maximum(lengths[1], shortest) / np.maximum(lengths[0], shortest))
    return left * ratio, right / ratio


def _roots(metric: Floats) -> tuple[Floats, Floats]:
    """Square root of a metric and its inverse; directions it knows nothing of get a floor."""
    values, axes = np.linalg.eigh(metric)
    if values[-1] <= 0:
        return np.eye(len(metric)), np.eye(len(metric))
    roots = np.sqrt(np.maximum(values, SMALLEST_RATIO * values[-1]))
    return (axes * roots) @ axes.T, (axes / roots) @ axes.T


def spectrum_of(losses: Sequence[float] | Floats, carried: Sequence[float] | Floats) -> list[float]:
    """What every direction saves.

    A width can keep fewer directions than it has room for, so it is never worse than a narrower
    one: the best loss so far counts. Directions that save nothing that can be seen are told apart
    by a trifle of what they carry, so that a budget that is left goes where it may still help.

    Args:
        losses: With the first 0, 1, ..., D directions.
        carried: Mean square of what each direction adds to the score.
    """
    best = np.minimum.accumulate(np.asarray(losses, dtype=np.float64))
    saved = best[:-1] - best[1:] + TRIFLE * np.asarray(carried)
    return [float(each) for each in saved]
