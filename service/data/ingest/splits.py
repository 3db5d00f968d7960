"""Which split every row belongs to, decided row by row from its position or its time."""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.data.dataset import Split
from service.data.ingest.hashing import splitmix64
from service.data.readers.base import Rows

SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
SplitRule = Literal["random", "order", "time"]


class Splitter(Protocol):
    """A rule that gives every row its split, as an index into `SPLITS`."""

    def __call__(self, rows: Rows) -> NDArray[np.int8]:
        """Split the rows of a block."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomSplit:
    """Draw the split of every row from its position and the seed alone.

    The draw is a hash, so it depends neither on blocks and threads nor on which lines are
    rejected, and any other reader can repeat it.
    """

    fractions: tuple[float, float, float]
    seed: int

    def __call__(self, rows: Rows) -> NDArray[np.int8]:
        """Split the rows of a block."""
        start = splitmix64(np.array([self.seed], dtype=np.uint64))
        uniform = (splitmix64(rows.index.astype(np.uint64) + start) >> np.uint64(11)) * 2.0**-53
        return np.searchsorted(_bounds(self.fractions), uniform, side="right").astype(np.int8)


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderSplit:
    """Cut the files by position: the last lines are the test split."""

    fractions: tuple[float, float, float]
    num_lines: int
    """Data lines of all files."""

    def __call__(self, rows: Rows) -> NDArray[np.int8]:
        """Split the rows of a block."""
        bounds = np.round(_bounds(self.fractions) * self.num_lines)
        return np.searchsorted(bounds, rows.index, side="right").astype(np.int8)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeSplit:
    """Cut by time: rows of the same time stay together."""

    first_validation: int
    """Time of the first row of the validation split."""
    first_test: int
    """Time of the first row of the test split."""

    def __call__(self, rows: Rows) -> NDArray[np.int8]:
        """Split the rows of a block."""
        assert rows.time is not None, "only data with a time column is split by time"
        bounds = np.array([self.first_validation, self.first_test], dtype=np.int64)
        return np.searchsorted(bounds, rows.time, side="right").astype(np.int8)

    @classmethod
    def at_quantiles(
        cls,
        times: NDArray[np.int64],
        counts: NDArray[np.int64],
        fractions: tuple[float, float, float],
    ) -> "TimeSplit":
        """Put the cuts where the shares of rows come closest to the fractions.

        Args:
            times: Distinct times, ascending.
            counts: Rows of each.
            fractions: Shares of the splits.

        Raises:
            ValueError: If the times leave a split without rows that should have some.
        """
        before = np.append(0, np.cumsum(counts)) / counts.sum()  # share of rows before each time
        cuts = [int(np.abs(before - bound).argmin()) for bound in _bounds(fractions)]
        shares = np.diff([0.0, before[cuts[0]], before[cuts[1]], 1.0])
        if any(share == 0 < fraction for share, fraction in zip(shares, fractions, strict=True)):
            most = int(counts.argmax())
            raise ValueError(
                f"a split by time is of no use here: {len(times)} distinct times, and "
                f"{counts[most] / counts.sum():.0%} of the rows share time {times[most]}; "
                f"expected enough of them for {fractions}; use --split random or order"
            )
        ends = np.append(times, times[-1] + 1)
        return cls(first_validation=int(ends[cuts[0]]), first_test=int(ends[cuts[1]]))


def check_fractions(fractions: tuple[float, float, float]) -> None:
    """Refuse shares that do not add up, or leave nothing to train on.

    Raises:
        ValueError: If a share is negative, the first is zero, or the sum is not 1.
    """
    if min(fractions) < 0 or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"fractions={fractions}, expected shares of train, validation and test that add up "
            f"to 1, the first above 0; for example 0.8 0.1 0.1"
        )


def _bounds(fractions: tuple[float, float, float]) -> NDArray[np.float64]:
    return np.array([fractions[0], fractions[0] + fractions[1]])
