"""A learned world as gymnasium environments (https://gymnasium.farama.org)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Float, UInt8
from torch import Tensor

from openwfm.video import to_uint8
from openwfm.world.session import ActionSpace, Session

# First frames (rows of a bank) and seeds -> a session of so many rows.
Start = Callable[[Float[Tensor, "b n c h w"], Sequence[int]], Session]
# (frames b c h w in [-1, 1], actions b a) -> rewards b, success b (bool).
Judge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def pictures(frames: Float[Tensor, "b c h w"]) -> UInt8[np.ndarray, "b h w c"]:
    return to_uint8(frames.transpose(0, 1)).numpy()


class WorldVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """``num_envs`` episodes in one batch of a world.

    ``bank`` holds the beginnings of episodes, ``k n c h w`` in [-1, 1]: a reset draws one of them
    and a seed for the world's own noise. The observation is the picture, uint8 ``h w c``; an
    episode ends with success (``judge``), and is cut off after ``max_steps``. ``info`` has
    ``success``. An episode that is over starts anew at the next step (next-step autoreset).
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        start: Start,
        bank: Float[Tensor, "k n c h w"],
        judge: Judge,
        actions: ActionSpace,
        *,
        num_envs: int = 1,
        max_steps: int = 40,
        render_mode: str | None = None,
    ) -> None:
        if bank.ndim != 5 or not len(bank):
            raise ValueError(f"bank: shape {tuple(bank.shape)}: must be (k, frames, 3, rows, cols)")
        if num_envs < 1 or max_steps < 1:
            raise ValueError(f"num_envs={num_envs}, max_steps={max_steps}: must be at least 1")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode}: must be rgb_array or None")
        self._start, self._bank, self._judge = start, bank, judge
        self.num_envs, self.max_steps, self.render_mode = num_envs, max_steps, render_mode
        self.actions = actions
        self.metadata = {**self.metadata, "render_fps": actions.rate}
        channels, rows, columns = bank.shape[2:]
        self.single_observation_space = gymnasium.spaces.Box(
            0, 255, (rows, columns, channels), np.uint8
        )
        self.single_action_space = gymnasium.spaces.Box(
            np.array(actions.low, np.float32), np.array(actions.high, np.float32)
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.session: Session | None = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """All episodes anew. ``options``: ``{"rows": [...]}`` names beginnings of the bank."""
        unknown = set(options or {}) - {"rows"}
        if unknown:
            raise ValueError(f"options={sorted(unknown)}: must be rows")
        if isinstance(seed, Sequence):
            if len(seed) != self.num_envs:
                raise ValueError(f"seed: {len(seed)} of them: must be {self.num_envs}")
            given = list(seed)
        else:
            given = [None if seed is None else seed + i for i in range(self.num_envs)]
        self._randoms = [
            np.random.default_rng(each)
            if each is not None or not hasattr(self, "_randoms")
            else old
            for each, old in zip(given, getattr(self, "_randoms", given), strict=True)
        ]
        rows = (options or {}).get("rows")
        if rows is not None and len(rows) != self.num_envs:
            raise ValueError(f"options.rows: {len(rows)} of them: must be {self.num_envs}")
        self.session = self._begin(range(self.num_envs), rows)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._over = np.zeros(self.num_envs, np.bool_)
        return pictures(self.session.frames), {"success": np.zeros(self.num_envs, np.bool_)}

    def _begin(self, envs: Sequence[int], rows: Sequence[int] | None = None) -> Session:
        drawn = [int(self._randoms[i].integers(len(self._bank))) for i in envs]
        seeds = [int(self._randoms[i].integers(2**62)) for i in envs]
        chosen = drawn if rows is None else list(rows)
        return self._start(self._bank[chosen], seeds)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Raises ValueError before the first reset and for actions that do not fit."""
        if self.session is None:
            raise ValueError("step: must come after reset")
        given = torch.as_tensor(np.asarray(actions, np.float32))
        fresh = self._over
        if fresh.all():
            self.session = self._begin(range(self.num_envs))
            frames = self.session.frames
            rewards, success = torch.zeros(self.num_envs), torch.zeros(self.num_envs).bool()
        else:
            frames = self.session.step(given)
            rewards, success = self._judge(frames, given)
            if fresh.any():
                frames = self._renew(np.flatnonzero(fresh))
        self._steps = np.where(fresh, 0, self._steps + 1)
        terminated = success.cpu().numpy().astype(np.bool_) & ~fresh
        truncated = ~terminated & (self._steps >= self.max_steps)
        reward = np.where(fresh, 0.0, rewards.cpu().numpy().astype(np.float64))
        self._over = terminated | truncated
        return pictures(frames), reward, terminated, truncated, {"success": terminated.copy()}

    def _renew(self, envs: np.ndarray) -> Float[Tensor, "b c h w"]:
        """Put new episodes in the place of those that are over."""
        assert self.session is not None
        state, other = self.session.state(), self._begin(envs.tolist()).state()
        self.session = self.session.clone(state.replaced(envs.tolist(), other))
        return self.session.frames

    def render(self) -> tuple[np.ndarray, ...] | None:
        if self.session is None or self.render_mode is None:
            return None
        return tuple(pictures(self.session.frames))


class WorldEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One episode at a time; see `WorldVectorEnv`. ``fork`` gives a copy to try things in."""

    def __init__(self, envs: WorldVectorEnv) -> None:
        if envs.num_envs != 1:
            raise ValueError(f"num_envs={envs.num_envs}: must be 1")
        self._envs = envs
        self.metadata, self.render_mode = envs.metadata, envs.render_mode
        self.observation_space = envs.single_observation_space
        self.action_space = envs.single_action_space

    @property
    def session(self) -> Session | None:
        return self._envs.session

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """``options``: ``{"row": k}`` names a beginning of the bank."""
        super().reset(seed=seed)
        if unknown := set(options or {}) - {"row"}:
            raise ValueError(f"options={sorted(unknown)}: must be row")
        rows = None if not options else {"rows": [options["row"]]}
        seeds = None if seed is None else int(self.np_random.integers(2**62))
        frames, info = self._envs.reset(seed=seeds, options=rows)
        return frames[0], {"success": bool(info["success"][0])}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Raises ValueError for an episode that is over: reset first."""
        if self._envs.session is not None and bool(self._envs._over[0]):
            raise ValueError("step: the episode is over: must come after reset")
        frames, rewards, terminated, truncated, info = self._envs.step(np.asarray(action)[None])
        success = {"success": bool(info["success"][0])}
        return frames[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), success

    def fork(self) -> Session:
        """A session that goes on from here on its own. Raises ValueError before the first reset."""
        if self._envs.session is None:
            raise ValueError("fork: must come after reset")
        return self._envs.session.fork()

    def render(self) -> np.ndarray | None:
        shown = self._envs.render()
        return None if shown is None else shown[0]
