"""Does a world rank policies as reality does? Measures over policies, with bootstrap intervals.

Pearson's and Spearman's correlation, and the mean maximum rank violation of SIMPLER (Li et al.,
arXiv 2405.05941, section 4): for each policy the largest true difference to a policy that the world
puts on the wrong side of it; 0 is best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from openwfm.randomness import numpy_generator

FEWEST = 4  # policies below which a correlation tells next to nothing


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One measure; ``low`` and ``high`` bound it over resampled episodes. NaN where it has none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PolicyComparison:
    """``real`` and ``world`` are success rates by policy; ``verdict`` says what can be said."""

    policies: tuple[str, ...]
    real: tuple[float, ...]
    world: tuple[float, ...]
    pearson: Agreement
    spearman: Agreement
    rank_violation: Agreement
    verdict: str


def pearson(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """NaN for a constant."""
    a, b = (np.asarray(v, np.float64) - np.mean(v) for v in (x, y))
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / scale) if scale > 1e-12 else np.nan


def spearman(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Pearson's of the ranks; ties share the mean of their ranks. NaN for a constant."""
    return pearson(rankdata(x), rankdata(y))


def rank_violation(
    real: Sequence[float] | np.ndarray, world: Sequence[float] | np.ndarray
) -> float:
    """Mean over policies of the largest |real_i - real_j| among those whose order differs."""
    r, w = np.asarray(real, np.float64), np.asarray(world, np.float64)
    gaps = np.abs(r[:, None] - r)
    wrong = (w[:, None] < w) != (r[:, None] < r)
    return float((gaps * wrong).max(axis=1).mean())


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pearson": pearson,
    "spearman": spearman,
    "rank_violation": rank_violation,
}


def compare_policies(
    real: Mapping[str, Sequence[float]],
    world: Mapping[str, Sequence[float]],
    *,
    seed: int = 0,
    num: int = 2000,
    level: float = 0.95,
) -> PolicyComparison:
    """From the outcomes of episodes (1 is a success), by policy; episodes are resampled.

    Raises ValueError when the two are not of the same policies, or one has no episodes.
    """
    names = tuple(real)
    if set(names) != set(world):
        raise ValueError(f"policies: {sorted(world)} in the world: must be {sorted(names)}")
    outcomes = {
        place: [np.asarray(of[name], np.float64) for name in names]
        for place, of in (("real", real), ("world", world))
    }
    for place, lists in outcomes.items():
        for name, values in zip(names, lists, strict=True):
            if not len(values) or not np.isfinite(values).all():
                raise ValueError(f"{place}.{name}: must be one finite outcome or more")
    rates = {place: np.array([v.mean() for v in lists]) for place, lists in outcomes.items()}
    random = numpy_generator(seed, "policy ranks")
    draws: dict[str, list[float]] = {name: [] for name in MEASURES}
    for _ in range(num):
        again = {
            place: np.array([random.choice(v, len(v)).mean() for v in lists])
            for place, lists in outcomes.items()
        }
        for name, measure in MEASURES.items():
            draws[name].append(measure(again["real"], again["world"]))
    found = {
        name: _agreement(measure(rates["real"], rates["world"]), draws[name], level)
        for name, measure in MEASURES.items()
    }
    return PolicyComparison(
        policies=names,
        real=tuple(map(float, rates["real"])),
        world=tuple(map(float, rates["world"])),
        **found,
        verdict=_verdict(len(names), found["spearman"]),
    )


def _agreement(value: float, draws: Sequence[float], level: float) -> Agreement:
    known = np.asarray(draws)[np.isfinite(draws)]
    if not len(known):
        return Agreement(value=value, low=np.nan, high=np.nan)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Agreement(value=value, low=float(low), high=float(high))


def _verdict(count: int, rank: Agreement) -> str:
    if count < FEWEST:
        return f"{count} policies are too few to tell whether the world ranks them as reality does"
    if np.isnan(rank.value):
        return "all policies do equally well in one of the two, so there is no order to compare"
    if rank.low > 0:
        return "the world's order of the policies agrees with reality's more than chance would"
    return "the interval of the rank correlation reaches below zero: no agreement is shown"
