"""Learning rates over a run, step by step."""

from __future__ import annotations

import pytest
import torch

from openwfm.nn.schedule import linear_to_zero


def rates(warmup: int, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = linear_to_zero(optimizer, warmup_steps=warmup, max_steps=steps)
    found = []
    for _ in range(steps + 2):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_a_cooldown_ends_at_zero():
    assert rates(0, 4) == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0, 0.0])
    assert rates(2, 6) == pytest.approx([1.0, 2.0, 2.0, 1.5, 1.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize(("warmup", "steps"), [(-1, 4), (4, 4), (5, 4)])
def test_a_warmup_longer_than_the_run(warmup, steps):
    with pytest.raises(ValueError, match=f"scheduler.warmup_steps={warmup}"):
        rates(warmup, steps)
