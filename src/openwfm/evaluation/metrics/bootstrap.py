"""Confidence intervals over clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openwfm.randomness import numpy_generator


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean, its confidence interval, and what it is over. NaN where there is no value."""

    mean: float
    low: float
    high: float
    num_values: int
    num_groups: int


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    num: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of the mean (Efron and Tibshirani 1993, chapter 13).

    Whole ``groups`` are resampled (windows of one clip resemble each other, so they count as one
    draw); None makes every value its own group. A single group gives an interval of NaN.
    Raises ValueError for values that are not finite, or groups of another length.
    """
    data = np.asarray(values, dtype=np.float64)
    if groups is not None and len(groups) != len(data):
        raise ValueError(f"groups: {len(groups)} labels for {len(data)} values")
    if not np.isfinite(data).all():
        raise ValueError("values: must be finite")
    if not 0 < level < 1 or num < 1:
        raise ValueError(f"level={level}, num={num}: level must be in (0, 1), num at least 1")
    if not len(data):
        return Interval(mean=np.nan, low=np.nan, high=np.nan, num_values=0, num_groups=0)
    labels = np.arange(len(data)) if groups is None else np.asarray(groups)
    unique, member = np.unique(labels, return_inverse=True)
    sums = np.bincount(member, weights=data)
    counts = np.bincount(member)
    low = high = np.nan
    if len(unique) > 1:
        random = numpy_generator(seed, "bootstrap")
        draws = random.integers(len(unique), size=(num, len(unique)))
        means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        mean=float(data.mean()),
        low=float(low),
        high=float(high),
        num_values=len(data),
        num_groups=len(unique),
    )
