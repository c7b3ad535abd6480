"""Planners find what they are asked for, in a world where the best plan is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openwfm.world.planner import Planner, PlannerConfig
from tests.world.toy_session import SIDE, Dot, dots, draw

GOAL = torch.tensor([[12.0, 3.0]])


def closeness(frames: Tensor, actions: Tensor) -> Tensor:
    """Minus the distance of the dot, read out of the picture, to the goal."""
    weight = frames[:, 0].clamp(min=0) + 1e-6
    axis = torch.arange(SIDE, dtype=torch.float32)
    x = (weight.sum(1) * axis).sum(1) / weight.sum((1, 2))
    y = (weight.sum(2) * axis).sum(1) / weight.sum((1, 2))
    return -(torch.stack((x, y), 1) - GOAL).norm(dim=1)


@pytest.mark.parametrize("method", ["random", "cem", "mppi"])
def test_receding_horizon_reaches_the_goal_where_random_actions_do_not(method: str) -> None:
    session = Dot(torch.tensor([[3.0, 12.0]]), [1], wind=0.05)
    config = PlannerConfig(method=method, horizon=5, candidates=48, iterations=3, elites=6)
    planner = Planner(config, closeness, seed=2)
    for _ in range(14):
        session.step(planner.act(session))
    reached = float(closeness(session.frames, GOAL))
    wander = Dot(torch.tensor([[3.0, 12.0]]), [1], wind=0.05)
    generator = torch.Generator().manual_seed(3)
    for _ in range(14):
        wander.step(torch.rand(2, generator=generator) * 2 - 1)
    assert reached > -2
    assert reached > float(closeness(wander.frames, GOAL)) + 3


def test_planning_leaves_the_session_alone_and_is_a_function_of_its_seed() -> None:
    session = dots(1)
    before = session.state()
    plans = [
        Planner(PlannerConfig(candidates=16), closeness, seed=s).plan(session) for s in (1, 1, 2)
    ]
    after = session.state()
    assert torch.equal(before.frames, after.frames)
    assert before.steps == after.steps
    assert torch.equal(plans[0].actions, plans[1].actions)
    assert not torch.equal(plans[0].actions, plans[2].actions)
    for plan in plans:
        assert list(plan.history) == sorted(plan.history)
        assert plan.value == plan.history[-1]


def test_a_plan_is_worth_what_it_says() -> None:
    """Its value is what the session itself gives: same noise, same frames."""
    session = dots(1, seed=4)
    config = PlannerConfig(horizon=6, candidates=20, discount=0.9, batch=7)
    plan = Planner(config, closeness).plan(session)
    total = sum(
        0.9**step * float(closeness(session.step(action), GOAL))
        for step, action in enumerate(plan.actions)
    )
    assert plan.value == pytest.approx(total, abs=1e-4)


def test_actions_stay_in_their_bounds_and_are_held() -> None:
    config = PlannerConfig(horizon=7, repeat=3, candidates=12, elites=3, spread=5.0)
    plan = Planner(config, closeness).plan(dots(1))
    assert plan.actions.shape == (7, 2)
    assert float(plan.actions.abs().max()) <= 1
    assert torch.equal(plan.actions[0], plan.actions[2])
    assert torch.equal(plan.actions[3], plan.actions[5])


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"planner\.method=guess"):
        PlannerConfig(method="guess")
    with pytest.raises(ValueError, match=r"elites=9"):
        PlannerConfig(elites=9, candidates=8)
    with pytest.raises(ValueError, match="2 rows: must be 1"):
        Planner(PlannerConfig(), closeness).plan(dots(2))
    with pytest.raises(ValueError, match="finite numbers"):
        Planner(PlannerConfig(), lambda f, a: f[:, 0, 0, 0] / 0).plan(dots(1))
    assert draw(GOAL).shape == (1, 3, SIDE, SIDE)
