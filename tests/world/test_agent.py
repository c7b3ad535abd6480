"""An agent that somebody else wrote trains in a learned world."""

from __future__ import annotations

import pytest

from openwfm.world.env import WorldEnv
from tests.world.test_env import many


@pytest.mark.filterwarnings("ignore")
def test_an_agent_of_stable_baselines_trains_in_a_world() -> None:
    baselines = pytest.importorskip("stable_baselines3")
    env = WorldEnv(many(1))
    agent = baselines.PPO(
        "MlpPolicy", env, n_steps=32, batch_size=16, n_epochs=1, seed=3, device="cpu",
        policy_kwargs={"net_arch": [16]},
    )  # fmt: skip
    before = [p.detach().clone() for p in agent.policy.parameters()]
    agent.learn(total_timesteps=64)
    assert agent.num_timesteps == 64
    assert any(not (a == b).all() for a, b in zip(before, agent.policy.parameters(), strict=True))
    seen, _ = env.reset(seed=1)
    action, _ = agent.predict(seen, deterministic=True)
    assert env.action_space.contains(action)
