"""The learned world as gymnasium sees it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

from openwfm.world.env import WorldEnv, WorldVectorEnv, pictures
from tests.world.test_planner import closeness
from tests.world.toy_session import SIDE, SPACE, Dot, draw

PLACES = torch.rand(12, 2, generator=torch.Generator().manual_seed(0)) * SIDE
BANK = draw(PLACES)[:, None]


def start(bank: Tensor, seeds: Sequence[int]) -> Dot:
    found = [int((draw(PLACES) - frames[0]).abs().sum((1, 2, 3)).argmin()) for frames in bank]
    return Dot(PLACES[found], seeds)


def judge(frames: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    reward = closeness(frames, actions)
    return reward, reward > -8.0


def many(count: int, max_steps: int = 9, **values: Any) -> WorldVectorEnv:
    return WorldVectorEnv(start, BANK, judge, SPACE, num_envs=count, max_steps=max_steps, **values)


def test_it_passes_the_checker_of_gymnasium() -> None:
    env = WorldEnv(many(1, render_mode="rgb_array"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*spec.*")
        check_env(env, skip_render_check=True)
    assert env.render().shape == (SIDE, SIDE, 3)  # type: ignore[union-attr]


def test_episodes_of_a_batch_are_those_of_single_environments() -> None:
    """Through ends, cut-offs and restarts."""
    batch, singles = many(4), [WorldEnv(many(1)) for _ in range(4)]
    seen, _ = batch.reset(seed=[11, 12, 13, 14])
    for row, env in enumerate(singles):
        env._envs._randoms = [np.random.default_rng(11 + row)]
        first, _ = env._envs.reset()
        assert np.array_equal(first[0], seen[row])
    random = np.random.default_rng(5)
    over = np.zeros(4, bool)
    ended = cut = 0
    for _ in range(40):
        actions = random.uniform(-1, 1, (4, 2)).astype(np.float32)
        seen, rewards, terminated, truncated, info = batch.step(actions)
        assert np.array_equal(info["success"], terminated)
        for row, env in enumerate(singles):
            frames, reward, end, stop, _ = env._envs.step(actions[row : row + 1])
            assert np.array_equal(frames[0], seen[row])
            assert (float(reward[0]), bool(end[0]), bool(stop[0])) == (
                float(rewards[row]), bool(terminated[row]), bool(truncated[row]),
            )  # fmt: skip
            if over[row]:
                assert rewards[row] == 0 and not terminated[row]
        ended, cut = ended + terminated.sum(), cut + truncated.sum()
        over = terminated | truncated
    assert ended > 2
    assert cut > 2


def test_a_fork_goes_on_alone() -> None:
    far = int((PLACES - torch.tensor([12.0, 3.0])).norm(dim=1).argmax())
    env = WorldEnv(many(1))
    env.reset(seed=3, options={"row": far})
    fork = env.fork()
    for action in np.random.default_rng(1).uniform(-0.3, 0.3, (3, 2)).astype(np.float32):
        seen, *_ = env.step(action)
        assert np.array_equal(pictures(fork.step(torch.from_numpy(action)))[0], seen)


def test_mistakes_are_named() -> None:
    env = WorldEnv(many(1, max_steps=1))
    with pytest.raises(ValueError, match="after reset"):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="after reset"):
        env.fork()
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="episode is over"):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="unknown|options"):
        env.reset(options={"scene": 1})
    with pytest.raises(ValueError, match="num_envs=0"):
        many(0)
    with pytest.raises(ValueError, match="must be 1"):
        WorldEnv(many(2))
    with pytest.raises(ValueError, match="bank"):
        WorldVectorEnv(start, BANK[:0], judge, SPACE)
