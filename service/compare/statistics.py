"""Mean, spread and paired differences over a handful of seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A mean over seeds with its uncertainty."""

    mean: float
    sd: float
    """Standard deviation of single values; NaN for a single one."""
    half_width: float
    """Half of the mean's 95 % t-interval; NaN for a single value."""
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval; the mean itself for a single value."""
        return self.mean - (self.half_width if self.n > 1 else 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval; the mean itself for a single value."""
        return self.mean + (self.half_width if self.n > 1 else 0.0)


def summary(values: Sequence[float]) -> Summary:
    """Mean, standard deviation and 95 % t-interval of the mean; NaN where there is no value."""
    n = len(values)
    sd = stdev(values) if n > 1 else math.nan
    half_width = t_quantile(CONFIDENCE, n - 1) * sd / math.sqrt(n) if n > 1 else math.nan
    mean = fmean(values) if values else math.nan
    return Summary(mean=mean, sd=sd, half_width=half_width, n=n)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Summary | None:
    """What the seeds that both have say of ours minus theirs; None where they share none."""
    shared = sorted(ours.keys() & theirs.keys())
    return summary([ours[seed] - theirs[seed] for seed in shared]) if shared else None


@cache
def t_quantile(confidence: float, freedom: int) -> float:
    """How many standard errors hold a share of Student's t distribution around its middle.

    Raises:
        ValueError: If there is no degree of freedom, or the share is not within (0, 1).
    """
    if freedom < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"t quantile of {confidence} with {freedom} degrees of freedom; expected a share in "
            f"(0, 1) and at least 1 degree, which takes two values"
        )
    low, high = 0.0, 1.0
    while t_coverage(high, freedom) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_coverage(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def t_coverage(t: float, freedom: int) -> float:
    """Probability that Student's t is within ``[-t, t]``, in closed form.

    Source:
        Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.7.3 and 26.7.4.
    """
    theta = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(theta), math.cos(theta)
    is_odd = freedom % 2
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for k in range(1 + is_odd, freedom, 2):  # the powers of the cosine rise by two
        total += term
        term *= k / (k + 1) * cosine * cosine
    return 2 / math.pi * (theta + sine * total) if is_odd else sine * total
