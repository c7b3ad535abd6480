"""The table in motion: scenes are set, actions are carried out, the truth is read, pictures taken.

The film and the gymnasium environment both run this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openwfm.extras import require
from openwfm.simulation.bodies import COLOURS
from openwfm.simulation.looks import Look
from openwfm.simulation.manipulation.actions import (
    ACTION_HIGH,
    ACTION_LOW,
    euler_angles,
    rotation,
)
from openwfm.simulation.manipulation.arm import FORE, SHOULDER, UPPER, along, solve
from openwfm.simulation.manipulation.model import (
    CABINET,
    FINGER_TRAVEL,
    HANDLE_HEIGHT,
    HANDLE_REACH,
    MAX_BLOCKS,
    TABLE_CENTRE,
    TABLE_HALF,
    TIMESTEP,
    model_xml,
)
from openwfm.simulation.manipulation.scene import MARK_RADIUS, Scene
from openwfm.simulation.worlds import ClipRejectedError, check_stable

RATE = 5  # actions a second
NUM_SUBSTEPS, RAMP_CHUNKS, CHUNK = 40, 7, 4
assert abs(NUM_SUBSTEPS * TIMESTEP * RATE - 1) < 1e-9
WORKSPACE_LOW = np.array([-0.20, -0.25, 0.012])
WORKSPACE_HIGH = np.array([0.20, 0.26, 0.32])
MAX_TILT, MAX_YAW = 0.5, 2.4
BLOCK_DENSITY = 600.0
AWAY = 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The state at an instant: metres, radians, quaternions (w, x, y, z).

    ``euler`` is roll, pitch and yaw of the gripper, ``opening`` from 0 closed to 1 open (9 cm;
    the fingers give a little beyond their stops, which is not counted);
    ``positions`` ``n 3`` and ``rotations`` ``n 4`` of blocks and cup as far as they are there;
    ``drawer`` how far it is open; ``handle`` the middle of its handle.
    """

    position: np.ndarray
    euler: np.ndarray
    opening: float
    positions: np.ndarray
    rotations: np.ndarray
    drawer: float
    handle: np.ndarray


class Simulator:
    """One scene at a time; everything after `start` depends on its arguments and the actions."""

    def __init__(self, width: int, height: int) -> None:
        """``width`` and ``height`` of the largest picture in pixels, supersampling included."""
        self._mujoco = mj = require("mujoco", extra="simulation")
        self.model = mj.MjModel.from_xml_string(model_xml(width, height))
        self.data = mj.MjData(self.model)
        self._qpos = {
            name: self.model.joint(name).qposadr[0]
            for name in (
                "left",
                "right",
                "drawer",
                "cup",
                *map("block{}".format, range(MAX_BLOCKS)),
            )
        }
        self._cup_geoms = self._geoms_of("cup")
        self._cabinet_geoms = self._geoms_of("cabinet") + self._geoms_of("drawer")
        self._robot_geoms = [self.geom(name) for name in ("base", "turret", "shoulder")]
        for body in ("upper", "fore", "gripper", "left", "right"):
            self._robot_geoms += self._geoms_of(body)
        self._upper, self._fore = (self.model.body(name).mocapid[0] for name in ("upper", "fore"))

    def _geoms_of(self, body: str) -> list[int]:
        entry = self.model.body(body)
        first, count = int(entry.geomadr[0]), int(entry.geomnum[0])
        return list(range(first, first + count))

    def geom(self, name: str) -> int:
        return int(self.model.geom(name).id)

    def parts(self) -> dict[str, list[int]]:
        """The geoms of everything that can be told apart in the scene, by name."""
        scene = self.scene
        parts = {"table": [self.geom("board")], "robot": self._robot_geoms}
        parts |= {block.name: [self.geom(f"block{i}")] for i, block in enumerate(scene.blocks)}
        if scene.cup:
            parts[scene.cup_name] = self._geoms_of("cup")
        if scene.mark:
            parts[scene.mark_name] = [self.geom("mark")]
        if scene.cabinet:
            parts |= {name: self._geoms_of(name) for name in ("cabinet", "drawer")}
        return parts

    def start(self, scene: Scene, look: Look) -> None:
        """Set ``scene``, with its things at rest on the table."""
        mj, model, data = self._mujoco, self.model, self.data
        self.scene = scene
        self._dress(look)
        cup, cabinet = scene.cup, scene.cabinet
        self._show(self._cup_geoms, cup and cup[0], (3, 6))
        self._show(self._cabinet_geoms, None, (0, 6))
        self._paint_cabinet(cabinet is not None, look)
        model.body_gravcomp[model.body("cup").id] = float(cup is None)
        mark = self.geom("mark")
        self._show([mark], scene.mark and scene.mark[0], (0, 0))
        model.geom_pos[mark, :2] = scene.mark[1] if scene.mark else (0, 0)
        model.geom_size[mark, 0] = MARK_RADIUS
        model.body_pos[model.body("cabinet").id] = (*(cabinet or (AWAY, 0.0)), 0.0)
        for i in range(MAX_BLOCKS):
            self._set_block(i)
        mj.mj_resetData(model, data)
        mj.mj_setConst(model, data)
        mj.mj_resetData(model, data)
        data.qpos[:6] = (*scene.gripper, 0, 0, 0)
        data.ctrl[:6] = data.qpos[:6]
        fingers = FINGER_TRAVEL * scene.opening
        data.qpos[[self._qpos["left"], self._qpos["right"]]] = data.ctrl[6] = fingers
        data.qpos[self._qpos["drawer"]] = scene.drawer
        self._put("cup", (*(cup[1] if cup else (AWAY, 1.0)), 0.0), 0.0)
        for i in range(MAX_BLOCKS):
            if i < len(scene.blocks):
                block = scene.blocks[i]
                self._put(f"block{i}", (*block.spot, block.half), block.yaw)
            else:
                self._put(f"block{i}", (AWAY, -1.0 - i, 1.0), 0.0)
        mj.mj_forward(model, data)
        self._pose_arm()

    def _put(self, name: str, position: tuple[float, float, float], yaw: float) -> None:
        at = self._qpos[name]
        self.data.qpos[at : at + 3] = position
        self.data.qpos[at + 3 : at + 7] = (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))

    def _set_block(self, index: int) -> None:
        model, geom = self.model, self.geom(f"block{index}")
        here = index < len(self.scene.blocks)
        block = self.scene.blocks[index] if here else self.scene.blocks[0]
        half, body = block.half, model.geom_bodyid[geom]
        self._show([geom], block.colour if here else None, (3, 6))
        model.geom_size[geom] = half
        model.geom_rbound[geom] = half * 3**0.5
        model.geom_aabb[geom] = (0, 0, 0, half, half, half)
        model.body_mass[body] = mass = BLOCK_DENSITY * (2 * half) ** 3
        model.body_inertia[body] = mass * (2 * half) ** 2 / 6
        model.body_gravcomp[body] = float(not here)

    def _show(self, geoms: list[int], colour: str | None, collide: tuple[int, int]) -> None:
        """Paint, or hide and let nothing touch, what is absent (``colour`` None)."""
        model = self.model
        model.geom_rgba[geoms] = (*COLOURS[colour], 1.0) if colour else 0.0
        model.geom_contype[geoms], model.geom_conaffinity[geoms] = collide if colour else (0, 0)

    def _paint_cabinet(self, here: bool, look: Look) -> None:
        model = self.model
        wood = np.array([0.62, 0.42, 0.26])
        for geom in self._cabinet_geoms if here else ():
            name = model.geom(geom).name
            shade = {"front": 1.25, "handle": 0.0, "stem0": 0.0, "stem1": 0.0}.get(name, 1.0)
            colour = shade * wood if shade else np.array([0.85, 0.86, 0.88])
            model.geom_rgba[geom] = (*colour, 1.0)
            model.geom_conaffinity[geom] = 6

    def _dress(self, look: Look) -> None:
        model = self.model
        sky = np.broadcast_to(np.asarray(look.background), (1, 3))
        for name, image in (("table", look.texture), ("sky", sky)):
            texture = model.texture(name).id
            size = model.tex_width[texture] * model.tex_height[texture] * 3
            values = np.rint(255 * image).astype(np.uint8).ravel()
            start = model.tex_adr[texture]
            model.tex_data[start : start + size] = np.resize(values, size)
        model.light_dir[0] = np.asarray(look.light) / np.linalg.norm(look.light)
        model.light_diffuse[0] = 0.5 * look.brightness

    def step(self, action: np.ndarray) -> None:
        """Carry out one action, clipped to its bounds, in a fifth of a second.

        The target is within the workspace; the servos ramp to it and settle. Raises
        ClipRejectedError when the simulation explodes (``unstable``) or a thing leaves the table
        (``left_table``).
        """
        action = np.clip(action, ACTION_LOW, ACTION_HIGH)
        data = self.data
        start = np.concatenate([data.qpos[:6], data.ctrl[6:7]])
        turn = rotation(start[[5, 4, 3]])
        position = np.clip(start[:3] + turn @ action[:3], WORKSPACE_LOW, WORKSPACE_HIGH)
        roll, pitch, yaw = euler_angles(turn @ rotation(action[3:6]))
        tilt = np.clip((pitch, roll), -MAX_TILT, MAX_TILT)
        yaw = np.clip(yaw, -MAX_YAW, MAX_YAW)
        goal = np.array([*position, yaw, *tilt, FINGER_TRAVEL * action[6]])
        for chunk in range(1, NUM_SUBSTEPS // CHUNK + 1):
            data.ctrl[:] = start + min(1.0, chunk / RAMP_CHUNKS) * (goal - start)
            self._mujoco.mj_step(self.model, data, CHUNK)
        check_stable(data)
        self._pose_arm()
        self._check_table()

    def _check_table(self) -> None:
        for name, place in zip(self.scene.object_names, self.read().positions, strict=False):
            away = np.abs(place[:2] - TABLE_CENTRE)
            if (away > TABLE_HALF).any():
                raise ClipRejectedError("left_table", f"the {name} after {self.data.time:.1f} s")

    def read(self) -> Truth:
        data, scene = self.data, self.scene
        names = [f"block{i}" for i in range(len(scene.blocks))] + ["cup"] * (scene.cup is not None)
        poses = np.stack([data.qpos[self._qpos[name] :][:7] for name in names])
        drawer = float(data.qpos[self._qpos["drawer"]])
        x, y = scene.cabinet or (AWAY, 0.0)
        opening = data.qpos[self._qpos["left"]] + data.qpos[self._qpos["right"]]
        return Truth(
            position=data.qpos[:3].copy(),
            euler=data.qpos[[5, 4, 3]],
            opening=float(np.clip(opening / (2 * FINGER_TRAVEL), 0, 1)),
            positions=poses[:, :3],
            rotations=poses[:, 3:],
            drawer=drawer,
            handle=np.array([x, y - CABINET[1] - 0.004 - HANDLE_REACH - drawer, HANDLE_HEIGHT]),
        )

    def _pose_arm(self) -> None:
        """Stand the links where inverse kinematics wants them."""
        truth = self.read()
        self.arm = arm = solve(truth.position, rotation(truth.euler))
        for mocap, start, end, length in (
            (self._upper, SHOULDER, arm.elbow, UPPER),
            (self._fore, arm.elbow, arm.wrist, FORE),
        ):
            self.data.mocap_pos[mocap] = (start + end) / 2
            self.data.mocap_quat[mocap] = along((end - start) / length)
        self._mujoco.mj_kinematics(self.model, self.data)
