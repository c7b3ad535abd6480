"""The gymnasium environment, and scripted policies of graded skill in it."""

from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from openwfm.simulation.manipulation.env import ManipulationEnv
from openwfm.simulation.manipulation.evaluate import evaluate_policies, table
from openwfm.simulation.manipulation.policies import SKILLS, Policy
from openwfm.simulation.manipulation.register import ENV_ID, register
from openwfm.simulation.manipulation.scene import TASKS

pytest.importorskip("mujoco")


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()
    register()


@pytest.fixture
def env(backend: str) -> Iterator[ManipulationEnv]:
    env = gymnasium.make(ENV_ID, task="open_drawer", render_mode="rgb_array", supersample=1)
    yield env.unwrapped  # type: ignore[misc]
    env.close()


def test_check_env_has_nothing_to_say(env: ManipulationEnv) -> None:
    # Warnings are errors here.
    check_env(env)


def test_an_expert_is_rewarded_once_the_task_is_done(env: ManipulationEnv) -> None:
    observation, info = env.reset(seed=7)
    assert "drawer" in info["instruction"].lower() or "handle" in info["instruction"]
    assert observation["image"].shape == (64, 64, 3) and not info["success"]
    policy = Policy(env.scene, "expert", np.random.default_rng(0))
    rewards, ended = [], False
    while not ended:
        observation, reward, ended, truncated, info = env.step(policy.act(env.truth()))
        rewards.append(reward)
        assert not truncated and observation in env.observation_space
    assert info["success"] and sum(rewards) == rewards[-1] == 1
    assert env.truth().drawer > 0.085
    np.testing.assert_array_equal(env.render(), observation["image"])


def test_resets_are_a_function_of_the_seed(env: ManipulationEnv) -> None:
    first, _ = env.reset(seed=3)
    other, _ = env.reset()
    again, _ = env.reset(seed=3)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["state"], other["state"])


def test_an_episode_ends_when_a_thing_leaves_the_table(env: ManipulationEnv) -> None:
    env.reset(seed=3)
    slot = env.simulator.model.joint("block0").dofadr[0]
    env.simulator.data.qvel[slot : slot + 2] = (8.0, 0.0)
    ended = False
    for _ in range(5):
        _, reward, ended, _, info = env.step(np.zeros(7))
        if ended:
            break
    assert ended and reward == 0 and info["rejected"] == "left_table" and not info["success"]


@pytest.mark.parametrize(
    "values", [{"task": "juggle"}, {"width": 65}, {"max_steps": 0}, {"render_mode": "human"}]
)
def test_bad_values_are_named(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}=.*must"):
        ManipulationEnv(**values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="options"):
        ManipulationEnv(pixels=False).reset(options={"a": 1})


def test_skills_are_graded() -> None:
    """All tasks together; `python -m openwfm.simulation.manipulation.evaluate` has more."""
    scores = evaluate_policies(8)
    assert len(scores) == len(SKILLS) * len(TASKS[:-1])
    rates = [np.mean([s.rate for s in scores if s.skill == skill]) for skill in SKILLS]
    assert list(SKILLS) == ["random", "clumsy", "average", "good", "expert"]
    assert rates == sorted(rates) and len(set(rates[:4])) == 4
    assert rates[0] < 0.05 and rates[-1] >= 0.95
    assert len(table(scores).splitlines()) == len(scores) + 1
