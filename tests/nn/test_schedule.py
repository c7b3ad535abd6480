"""Learning rates by step: closed forms and limits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.nn.schedule import cooldown, warmup_constant, warmup_cosine


def rates(schedule: object, steps: int, **values: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = schedule(optimizer, **values)  # type: ignore[operator]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        scheduler.step()
    return found


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 20), st.integers(1, 40), st.floats(0, 1))
def test_cooldown_is_straight(warmup: int, length: int, final: float) -> None:
    found = rates(
        cooldown, warmup + length + 5, warmup_steps=warmup, max_steps=warmup + length,
        final_fraction=final,
    )  # fmt: skip
    up, down = found[:warmup], found[warmup:]
    assert up == pytest.approx([(i + 1) / max(1, warmup) for i in range(warmup)])
    wanted = [1 + (final - 1) * min(1.0, i / length) for i in range(len(down))]
    assert down == pytest.approx(wanted, abs=1e-12)


def test_constant_after_the_warmup() -> None:
    assert rates(warmup_constant, 6, warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert rates(warmup_constant, 2, warmup_steps=0) == [1, 1]


def test_cosine_ends_at_the_final_fraction() -> None:
    found = rates(warmup_cosine, 12, warmup_steps=2, max_steps=10, final_fraction=0.1)
    assert found[:3] == pytest.approx([0.5, 1.0, 1.0]) and found[6] == pytest.approx(0.55)
    assert found[10:] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("schedule", [cooldown, warmup_cosine])
@pytest.mark.parametrize(
    "values, rule",
    [
        ({"warmup_steps": 5, "max_steps": 5}, "scheduler.warmup_steps=5: must be in"),
        ({"warmup_steps": -1, "max_steps": 5}, "scheduler.warmup_steps=-1"),
        ({"warmup_steps": 0, "max_steps": 5, "final_fraction": 1.5}, "final_fraction=1.5"),
    ],
)
def test_bad_values(schedule: object, values: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        rates(schedule, 1, **values)


def test_a_negative_warmup() -> None:
    with pytest.raises(ValueError, match="scheduler.warmup_steps=-2: must not be negative"):
        rates(warmup_constant, 1, warmup_steps=-2)
