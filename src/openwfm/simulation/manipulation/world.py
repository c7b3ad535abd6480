"""Films episodes: a scene, a policy at work on it, and the truth beside the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openwfm.data.members import ActionTrack, CameraTrack
from openwfm.randomness import numpy_generator
from openwfm.simulation.looks import draw_look
from openwfm.simulation.manipulation.actions import ACTION_NAMES, ACTION_UNITS, motions
from openwfm.simulation.manipulation.config import ManipulationConfig
from openwfm.simulation.manipulation.language import describe, instruction
from openwfm.simulation.manipulation.policies import Policy
from openwfm.simulation.manipulation.scene import Scene, draw_scene
from openwfm.simulation.manipulation.simulator import RATE, Simulator, Truth
from openwfm.simulation.manipulation.tasks import HOLD, is_done
from openwfm.simulation.manipulation.views import VIEWS, Pictures, lens, pose
from openwfm.simulation.worlds import WorldClip


class ManipulationWorld:
    """Open in one process: one compiled model and one renderer."""

    def __init__(self, config: ManipulationConfig, seed: int, backend: str) -> None:
        self._config, self._seed = config, seed
        scale, size = config.supersample, (config.width, config.height)
        self.simulator = Simulator(size[0] * scale, size[1] * scale)
        self.pictures = Pictures(self.simulator, backend, *size, scale)
        self._views = VIEWS[: config.cameras]

    def close(self) -> None:
        self.pictures.close()

    def film(self, index: int) -> WorldClip:
        """Raises ClipRejectedError: ``unstable``, or ``left_table`` when a thing is shoved over
        the table's edge."""
        config = self._config
        task = config.tasks[index % len(config.tasks)]
        skill = config.skills[index // len(config.tasks) % len(config.skills)]
        draw = {
            purpose: numpy_generator(self._seed, f"manipulation/{purpose}", index)
            for purpose in ("scene", "look", "policy", "words")
        }
        scene, look = draw_scene(draw["scene"], task), draw_look(draw["look"])
        self.simulator.start(scene, look)
        self.pictures.dress()
        policy = Policy(scene, skill, draw["policy"])
        truths, angles, commands = [], [], []
        pictures: dict[str, list[np.ndarray]] = {view: [] for view in self._views}
        geoms: dict[str, list[np.ndarray]] = {view: [] for view in self._views}
        for frame in range(config.num_frames):
            truth = self.simulator.read()
            truths.append(truth)
            angles.append(self.simulator.arm.angles)
            for view in self._views:
                pictures[view].append(self.pictures.picture(view))
                geoms[view].append(self.pictures.geoms(view))
            if frame < config.num_frames - 1:
                commands.append(policy.act(truth))
                self.simulator.step(commands[-1])
        done = np.array([is_done(scene, truth) for truth in truths])
        told = instruction(scene, draw["words"])
        success = None if task == "play" else bool(done[-HOLD:].all())
        names, values = self._labels()
        caption = f"{told}."
        if config.caption == "full":
            caption += f" {describe(scene, look, truths, draw['words'])}"
        return WorldClip(
            views={view: np.stack(frames) for view, frames in pictures.items()},
            fps=float(RATE),
            captions={"main": caption},
            group=index,
            tags=("manipulation", task, skill, *_verdict(success)),
            facts={
                "task": task,
                "skill": skill,
                "instruction": told,
                "success": success,
                "objects": scene.object_names,
                "block_sides": [2 * block.half for block in scene.blocks],
            },
            cameras={view: self._camera(view, truths) for view in self._views},
            action=actions(truths),
            state=_state(scene, truths, angles, commands, done),
            masks={view: values[np.stack(ids)] for view, ids in geoms.items()},
            mask_names=names,
        )

    def _camera(self, view: str, truths: Sequence[Truth]) -> CameraTrack:
        intrinsics = lens(view, self._config.width, self._config.height).intrinsics()
        return CameraTrack(
            intrinsics=np.stack([intrinsics] * len(truths)),
            camera_to_world=np.stack([pose(view, truth) for truth in truths]),
        )

    def _labels(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of the mask's values, and the value of every geom; the last entry, which -1
        indexes, is the background's."""
        parts = self.simulator.parts()
        values = np.zeros(self.simulator.model.ngeom + 1, np.uint8)
        for value, geoms in enumerate(parts.values(), start=1):
            values[geoms] = value
        return ("background", *parts), values


def actions(truths: Sequence[Truth]) -> ActionTrack:
    """How the gripper moved from frame to frame, as `motions` has it."""
    values = motions(
        np.stack([truth.position for truth in truths]),
        np.stack([truth.euler for truth in truths]),
        np.array([truth.opening for truth in truths]),
    )
    return ActionTrack(values=values, names=ACTION_NAMES, units=ACTION_UNITS, rate=float(RATE))


def _state(
    scene: Scene,
    truths: Sequence[Truth],
    angles: Sequence[np.ndarray],
    commands: Sequence[np.ndarray],
    done: np.ndarray,
) -> dict[str, np.ndarray]:
    """Arrays over frames. ``command`` is what the policy asked for at each frame; at the last one
    nothing was asked, and it holds no motion and the last opening."""
    hold = np.concatenate([np.zeros(6), commands[-1][6:]])
    state = {
        "gripper_position": np.stack([truth.position for truth in truths]),
        "gripper_euler": np.stack([truth.euler for truth in truths]),
        "gripper_opening": np.array([truth.opening for truth in truths]),
        "arm_angles": np.stack(angles),
        "object_positions": np.stack([truth.positions for truth in truths]),
        "object_rotations": np.stack([truth.rotations for truth in truths]),
        "command": np.stack([*commands, hold]),
        "done": done,
    }
    if scene.cabinet:
        state["drawer_opening"] = np.array([truth.drawer for truth in truths])
    return state


def _verdict(success: bool | None) -> tuple[str, ...]:
    return () if success is None else ("success" if success else "failure",)
