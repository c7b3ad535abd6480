"""Agreement over policies, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from openwfm.evaluation.policy_ranks import compare_policies, pearson, rank_violation, spearman


@pytest.mark.parametrize("seed", range(6))
def test_correlations_are_those_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 6, (2, 9)).astype(float)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y)[0])
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0])


def test_rank_violations_by_hand() -> None:
    real = [0.9, 0.5, 0.1]
    assert rank_violation(real, [0.8, 0.7, 0.2]) == 0
    # The first two are swapped: each is wrong by 0.4, the third by nothing.
    assert rank_violation(real, [0.3, 0.7, 0.2]) == pytest.approx(0.8 / 3)
    assert rank_violation(real, [0.1, 0.5, 0.9]) == pytest.approx((0.8 + 0.4 + 0.8) / 3)


def episodes(rates: dict[str, float], count: int) -> dict[str, list[float]]:
    return {
        name: [1.0] * round(r * count) + [0.0] * (count - round(r * count))
        for name, r in rates.items()
    }


def test_many_episodes_tell_and_few_policies_do_not() -> None:
    rates = {"expert": 0.9, "good": 0.7, "clumsy": 0.4, "poor": 0.2, "random": 0.0}
    same = compare_policies(episodes(rates, 100), episodes(rates, 100))
    assert same.spearman.value == pytest.approx(1) and same.spearman.low > 0.8
    assert same.rank_violation.value == 0
    assert "agrees" in same.verdict
    opposite = dict(zip(rates, reversed(rates.values()), strict=True))
    other = compare_policies(episodes(rates, 100), episodes(opposite, 100))
    assert other.spearman.value == pytest.approx(-1) and "no agreement" in other.verdict
    few = {name: rates[name] for name in ("expert", "poor")}
    assert "too few" in compare_policies(episodes(few, 100), episodes(few, 100)).verdict
    flat = dict.fromkeys(rates, 0.0)
    assert "no order" in compare_policies(episodes(rates, 10), episodes(flat, 10)).verdict


def test_intervals_shrink_with_episodes_and_repeat_with_the_seed() -> None:
    rates = {"a": 0.8, "b": 0.6, "c": 0.5, "d": 0.3}
    small, large = (compare_policies(episodes(rates, n), episodes(rates, n)) for n in (10, 200))
    assert large.pearson.high - large.pearson.low < small.pearson.high - small.pearson.low
    assert compare_policies(episodes(rates, 10), episodes(rates, 10)) == small


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="policies"):
        compare_policies({"a": [1]}, {"b": [1]})
    with pytest.raises(ValueError, match=r"world\.a"):
        compare_policies({"a": [1]}, {"a": []})
