"""Estimates with 95 % intervals, and whether two of them differ."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A measured value with its 95 % interval; low and high are NaN where there is none."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    per_problem_values, seed: int = 0, *, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over problems (P,), NaN left out: (low, high).
    Fewer than two values: NaN, NaN."""
    values = np.asarray(per_problem_values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)  # (R,)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion, valid also at 0 and 1 (Wilson 1927)."""
    if trials == 0:
        return math.nan, math.nan
    z, share = 1.959964, successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    # `share` lies inside the interval; min and max guard against rounding
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def estimate(per_problem_values, seed: int = 0, *, share: bool = False) -> Estimate:
    """Mean over problems with its bootstrap interval; for proportions (`share`) that are all 0 or
    all 1, where the bootstrap has no width, Wilson's interval."""
    values = np.asarray(per_problem_values, dtype=float)
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return Estimate(math.nan, math.nan, math.nan)
    if share and len(known) > 1 and (np.all(known == 0) or np.all(known == 1)):
        return Estimate(float(known.mean()), *wilson(known.sum(), len(known)))
    value, (low, high) = float(known.mean()), bootstrap_interval(known, seed)
    # min and max guard against rounding of equal values; NaN (one value) stays NaN
    return Estimate(value, value if low > value else low, value if high < value else high)


# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def t_interval(values: list[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of `values` (Student's t); (None, None) for fewer than two."""
    if len(values) < 2:
        return None, None
    quantile = T_975[len(values) - 2] if len(values) - 2 < len(T_975) else 1.96
    mean = statistics.fmean(values)
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


class Measured(Estimate):
    """An Estimate that keeps the values it averages, so that two can be compared pairwise.

    each   the value of every problem (or seed); NaN where there was nothing to measure
    asked  identifies the problems (seeds): equal strings mean that values can be paired
    over   "problems" or "seeds"
    """

    each: np.ndarray
    asked: str
    over: str

    @classmethod
    def of(cls, one: Estimate, each: Sequence[float], asked: str, over: str = "problems"):
        """An Estimate together with its values."""
        found = cls(*one)
        found.each, found.asked, found.over = np.asarray(each, dtype=float), asked, over
        return found


UP, DOWN, LEVEL = "up", "down", "statistically indistinguishable"


def gap(before: Estimate, after: Estimate) -> Estimate:
    """after - before with its 95 % interval; NaN where one of the two has none.

    Both `Measured` on the same problems: paired bootstrap over the differences per problem. On the
    same seeds: Student's t over the differences per seed. Otherwise from both intervals, taken as
    independent (Newcombe 1998, Statistics in Medicine 17, method 10); d = after - before:

        low  = d - sqrt((after - after.low)^2 + (before.high - before)^2)
        high = d + sqrt((after.high - after)^2 + (before - before.low)^2)"""
    d = after.value - before.value
    both = isinstance(before, Measured) and isinstance(after, Measured)
    if both and before.asked == after.asked and len(before.each) > 1:
        apart = after.each - before.each
        if before.over == "problems":
            return estimate(apart)
        return Estimate(d, *t_interval(apart.tolist()))
    low = math.hypot(after.value - after.low, before.high - before.value)
    high = math.hypot(after.high - after.value, before.value - before.low)
    return Estimate(d, d - low, d + high)


def resolved(change: Estimate) -> float:
    """The true change that an interval as wide as this one would show to differ from zero in four
    runs of five (power 80 %): (1.96 + 0.84) standard errors."""
    return (1.96 + 0.84) / (2 * 1.96) * (change.high - change.low)


def in_words(change: Estimate, unit: str = "points") -> str:
    """A change as "+3.4 points [+1.0, +5.8], a clear rise"; where the interval includes zero, also
    the change that would have been seen (`resolved`). unit: "points" of a fraction, or another."""
    scale, form = (100, "+.1f") if unit == "points" else (1, "+.3g")
    value, low, high = (f"{scale * x:{form}}" for x in change)
    text = f"{value} {unit} [{low}, {high}]"
    if math.isnan(change.low):
        return f"{value} {unit}"
    if change.low == change.high:
        return f"{value} {unit}, the same on every problem"
    if way(change) != LEVEL:
        return f"{text}, a clear {'rise' if way(change) == UP else 'fall'}"
    size = f"{scale * resolved(change):{form}}".lstrip("+")
    return f"{text}, no clear change (one of {size} {unit} would be seen in four runs of five)"


def way(change: Estimate) -> str:
    """UP or DOWN where the interval excludes zero, else LEVEL (which does not mean equal)."""
    return UP if change.low > 0 else DOWN if change.high < 0 else LEVEL
