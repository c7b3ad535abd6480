from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from openwfm.diffusion.caching import StepCache
from tests.diffusion.test_model import SAMPLER, build, generate

SIGNAL = torch.ones(1, 2, 3)


def step(cache: StepCache, signal: Tensor, level: float, value: float) -> float | None:
    """What the cache predicts; what is true when it does not."""
    found = cache.predict(signal, level, 1)
    if found is None:
        cache.store(torch.full((1, 1, 2, 3), value), level)
        return None
    return float(found.mean())


def test_threshold_bounds_the_sum_of_changes() -> None:
    cache = StepCache(0.25)
    steps = [step(cache, SIGNAL * 1.1**i, -float(i), 1.0) for i in range(9)]
    assert [found is None for found in steps] == [True, False, False] * 3
    assert (cache.computed, cache.predicted) == (3, 6)


def test_nothing_is_predicted_at_zero() -> None:
    cache = StepCache(0.0)
    assert all(step(cache, SIGNAL * 1.01**i, -float(i), 1.0) is None for i in range(5))


def test_predictions_continue_a_straight_line() -> None:
    cache = StepCache(0.25)
    found = [step(cache, SIGNAL * 1.1**i, -0.5 * i, 3.0 - i) for i in range(9)]
    assert found[:3] == [None, 3, 3]  # one computed step: it is repeated
    assert found[4:6] == [pytest.approx(-1), pytest.approx(-2)]
    assert found[7:] == [pytest.approx(-4), pytest.approx(-5)]


def test_another_number_of_branches_or_another_batch_is_computed() -> None:
    cache = StepCache(10.0)
    assert step(cache, SIGNAL, 0.0, 1.0) is None
    assert cache.predict(SIGNAL, -1.0, 2) is None
    cache.store(torch.ones(2, 1, 2, 3), -1.0)
    assert cache.predict(SIGNAL, -2.0, 2) is not None
    assert cache.predict(torch.ones(2, 2, 3), -2.0, 2) is None


def test_same_level_twice_does_not_divide_by_zero() -> None:
    cache = StepCache(0.5)
    assert step(cache, SIGNAL, 1.0, 1.0) is None
    assert step(cache, SIGNAL * 2, 1.0, 2.0) is None
    assert step(cache, SIGNAL * 2, 0.5, 9.0) == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["euler", "heun", "res_2ab"])
def test_in_a_run(kind: str) -> None:
    """Off is exact, a small threshold stays near, a huge one computes once per branch count."""
    model, steps = build(), replace(SAMPLER, kind=kind, num_steps=12)
    exact = generate(model, sampler=steps)
    tiny = generate(model, sampler=replace(steps, cache=1e-9))
    assert torch.allclose(tiny, exact, atol=1e-5 * float(exact.abs().max()))
    some = generate(model, sampler=replace(steps, cache=0.02))
    huge = generate(model, sampler=replace(steps, cache=1e9))
    assert torch.isfinite(huge).all() and not torch.equal(some, exact)
    assert float((some - exact).std()) < float((huge - exact).std())


def test_interval_and_cache_together() -> None:
    steps = replace(SAMPLER, num_steps=12, cache=0.5, guidance_interval=(0.1, 5.0))
    assert torch.isfinite(generate(build(), sampler=steps)).all()
