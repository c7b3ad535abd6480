"""The table as a gymnasium environment, around the simulator that the film runs."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from openwfm.simulation.config import check_one_of, check_picture, check_whole
from openwfm.simulation.looks import draw_look
from openwfm.simulation.manipulation.actions import ACTION_HIGH, ACTION_LOW
from openwfm.simulation.manipulation.language import instruction
from openwfm.simulation.manipulation.model import MAX_BLOCKS
from openwfm.simulation.manipulation.scene import TASKS, Scene, draw_scene
from openwfm.simulation.manipulation.simulator import RATE, Simulator, Truth
from openwfm.simulation.manipulation.tasks import HOLD, is_done
from openwfm.simulation.manipulation.views import Pictures
from openwfm.simulation.render import choose_backend
from openwfm.simulation.worlds import ClipRejectedError

STATE_LIMIT = 10.0
NUM_STATE = 8 + 7 * (MAX_BLOCKS + 1) + 3 + 2
Observation = dict[str, np.ndarray]


class ManipulationEnv(gymnasium.Env[Observation, np.ndarray]):
    """An episode of one task; it ends with a reward of 1 when the task is done and stays done.

    An action is that of `openwfm.simulation.manipulation.actions`, asked for instead of measured.
    The observation has ``state`` (see `state_vector`) and, with ``pixels``, ``image`` uint8
    ``h w 3``. ``info`` has ``success``, the ``instruction`` and ``rejected``: empty, or why the
    episode was broken off (``left_table``, ``unstable``), which also ends it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE}

    def __init__(
        self,
        task: str = "pick_and_place",
        width: int = 64,
        height: int = 64,
        supersample: int = 2,
        max_steps: int = 40,
        pixels: bool = True,
        render_mode: str | None = None,
    ) -> None:
        check_one_of("task", task, TASKS)
        check_picture("env", width, height, RATE, supersample)
        check_whole("max_steps", max_steps, 1, 100_000)
        if render_mode is not None:
            check_one_of("render_mode", render_mode, ("rgb_array",))
        self.task, self.max_steps, self.render_mode = task, max_steps, render_mode
        self._size = (width, height, supersample)
        self.simulator = Simulator(width * supersample, height * supersample)
        self._pictures: Pictures | None = None
        self.action_space = gymnasium.spaces.Box(
            ACTION_LOW.astype(np.float32), ACTION_HIGH.astype(np.float32), dtype=np.float32
        )
        state = gymnasium.spaces.Box(-STATE_LIMIT, STATE_LIMIT, (NUM_STATE,), np.float32)
        image = gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8)
        spaces: dict[str, gymnasium.Space[Any]] = {"state": state}
        self._pixels = pixels
        if pixels:
            spaces["image"] = image
        self.observation_space = gymnasium.spaces.Dict(spaces)  # type: ignore[assignment]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new scene from the seed. Raises ValueError for options: there are none."""
        super().reset(seed=seed)
        if options:
            raise ValueError(f"options={options}: there are none")
        self.simulator.start(draw_scene(self.np_random, self.task), draw_look(self.np_random))
        if self._pictures is not None:
            self._pictures.dress()
        self.instruction = instruction(self.scene, self.np_random)
        self._steps = self._streak = 0
        self._seen = self._observe()
        return self._copy(), self._info("")

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        rejected = ""
        try:
            self.simulator.step(np.asarray(action, np.float64))
        except ClipRejectedError as error:
            rejected, self._streak = error.reason, 0
        else:
            done = is_done(self.scene, self.truth())
            self._streak = self._streak + 1 if done else 0
            self._seen = self._observe()
        self._steps += 1
        info = self._info(rejected)
        terminated = info["success"] or bool(rejected)
        reward = 1.0 if info["success"] else 0.0
        return self._copy(), reward, terminated, self._steps >= self.max_steps, info

    @property
    def scene(self) -> Scene:
        return self.simulator.scene

    def truth(self) -> Truth:
        """What scripted policies act on."""
        return self.simulator.read()

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """uint8 ``h w 3``; None without a render mode."""
        return None if self.render_mode is None else self._picture()

    def close(self) -> None:
        if self._pictures is not None:
            self._pictures.close()
            self._pictures = None

    def _picture(self) -> np.ndarray:
        if self._pictures is None:
            self._pictures = Pictures(self.simulator, choose_backend(), *self._size)
        return self._pictures.picture("main")

    def _observe(self) -> Observation:
        seen = {"state": state_vector(self.scene, self.truth())}
        if self._pixels:
            seen["image"] = self._picture()
        return seen

    def _copy(self) -> Observation:
        return {name: value.copy() for name, value in self._seen.items()}

    def _info(self, rejected: str) -> dict[str, Any]:
        success = self._streak >= HOLD
        return {"success": success, "instruction": self.instruction, "rejected": rejected}


def state_vector(scene: Scene, truth: Truth) -> np.ndarray:
    """float32: gripper position, roll, pitch, yaw and opening, drawer, position and quaternion of
    three blocks (the target first) and of the cup, the handle's position, the mark's place.

    Metres and radians; zeros for what is not there.
    """
    things = np.zeros((MAX_BLOCKS + 1, 7))
    rows = [*range(len(scene.blocks)), *([MAX_BLOCKS] if scene.cup else [])]
    things[rows] = np.concatenate([truth.positions, truth.rotations], axis=1)
    parts = (
        truth.position,
        truth.euler,
        [truth.opening, truth.drawer if scene.cabinet else 0.0],
        things.ravel(),
        truth.handle if scene.cabinet else np.zeros(3),
        scene.mark[1] if scene.mark else np.zeros(2),
    )
    return np.concatenate(parts).astype(np.float32)
