"""The stage: one MuJoCo model, compiled once, whose fields are rewritten for every shot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openwfm.extras import require
from openwfm.simulation.bodies import (
    COLOURS,
    Body,
    bounding_radius,
    contact_softness,
    half_extents,
    rotate_back,
    unit_inertia,
    volume,
)
from openwfm.simulation.camera import FOV_DEGREES, CameraPath
from openwfm.simulation.looks import TEXTURE_SIDE, Look
from openwfm.simulation.render import Renderer
from openwfm.simulation.scenarios import HALF_TABLE, MAX_BODIES, Paddle, Scene

GRAVITY = 5.0
MIN_PHYSICS_RATE = 190.0
SKY_SIDE = 16
TABLE, PADDLE, WALL = -1, -2, -3
Contact = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What happened, for captions: world positions ``t n 3`` in metres, and first contacts.

    A contact is (frame, body, other); ``other`` is a body's index, or TABLE, PADDLE or WALL.
    """

    positions: np.ndarray
    contacts: tuple[Contact, ...]


class Stage:
    """Films scenes. The result depends on the arguments of ``film`` alone, not on what was
    filmed before."""

    def __init__(self, *, size: int, supersample: int, fps: int, backend: str) -> None:
        self._mujoco = mj = require("mujoco", extra="simulation")
        self._fps, self._substeps = fps, math.ceil(MIN_PHYSICS_RATE / fps)
        xml = _model_xml(1 / (fps * self._substeps), size * supersample)
        self._model = mj.MjModel.from_xml_string(xml)
        self._data = mj.MjData(self._model)
        self._renderer = Renderer(self._model, backend, size, size, supersample)
        self._geoms = [self._model.geom(f"body{i}").id for i in range(MAX_BODIES)]
        self._paddle = self._model.geom("paddle").id
        self._types = {
            shape: getattr(mj.mjtGeom, f"mjGEOM_{shape.upper()}").value
            for shape in ("sphere", "box", "cylinder", "capsule", "ellipsoid")
        }
        self._labels = np.full(self._model.ngeom, WALL)
        self._labels[self._geoms] = range(MAX_BODIES)
        self._labels[self._model.geom("table").id] = TABLE
        self._labels[self._paddle] = PADDLE

    def close(self) -> None:
        self._renderer.close()

    def film(
        self, scene: Scene, look: Look, camera: CameraPath, num_frames: int
    ) -> tuple[np.ndarray, Recording]:
        """uint8 frames ``t h w c`` and what happened in them."""
        self._dress(look)
        self._place(scene)
        casters = self._geoms[: len(scene.bodies)]
        if scene.paddle is not None:
            casters = [*casters, self._paddle]
        frames, positions = [], []
        first: dict[tuple[int, int], int] = {}
        for frame in range(num_frames):
            pose = camera.at(frame / self._fps).pose()
            frames.append(self._renderer.render(self._data, FOV_DEGREES, pose, casters))
            positions.append(self._data.qpos.reshape(MAX_BODIES, 7)[: len(scene.bodies), :3].copy())
            for _ in range(self._substeps):
                self._move_paddle(scene.paddle)
                self._mujoco.mj_step(self._model, self._data)
                for pair in self._touching():
                    first.setdefault(pair, frame)
        contacts = sorted((frame, body, other) for (body, other), frame in first.items())
        return np.stack(frames), Recording(positions=np.stack(positions), contacts=tuple(contacts))

    def _touching(self) -> set[tuple[int, int]]:
        """Pairs in contact, the body with the larger label first; walls are left out."""
        if not self._data.ncon:
            return set()
        pairs = self._labels[self._data.contact.geom]
        return {(max(a, b), min(a, b)) for a, b in pairs.tolist() if min(a, b) != WALL}

    def _move_paddle(self, paddle: Paddle | None) -> None:
        if paddle is not None:
            seconds = min(self._data.time, paddle.seconds)
            self._data.mocap_pos[0] = np.asarray(paddle.start) + seconds * np.asarray(
                paddle.velocity
            )

    def _dress(self, look: Look) -> None:
        model = self._model
        table, sky = model.texture("table").id, model.texture("sky").id
        for texture, image in ((table, look.texture), (sky, _sky(look))):
            data = np.rint(255 * image).astype(np.uint8).ravel()
            start = model.tex_adr[texture]
            model.tex_data[start : start + data.size] = data
        model.light_dir[0] = np.asarray(look.light) / np.linalg.norm(look.light)
        model.light_diffuse[0] = 0.54 * look.brightness
        model.geom_rgba[model.geom("rim0").id : model.geom("rim3").id + 1, :3] = (
            0.75 * look.texture.mean((0, 1))
        )
        self._renderer.upload_textures()

    def _place(self, scene: Scene) -> None:
        mj, model, data = self._mujoco, self._model, self._data
        assert 0 < len(scene.bodies) <= MAX_BODIES
        for slot, geom in enumerate(self._geoms):
            if slot < len(scene.bodies):
                self._shape(geom, scene.bodies[slot])
            else:
                model.geom_rgba[geom, 3] = 0
                model.geom_contype[geom] = model.geom_conaffinity[geom] = 0
        paddle = self._paddle
        model.geom_rgba[paddle, 3] = 1.0 if scene.paddle else 0.0
        model.geom_contype[paddle] = 1 if scene.paddle else 0
        mj.mj_resetData(model, data)
        mj.mj_setConst(model, data)
        mj.mj_resetData(model, data)
        for slot, body in enumerate(scene.bodies):
            data.qpos[7 * slot : 7 * slot + 7] = (*body.position, *body.rotation)
            data.qvel[6 * slot : 6 * slot + 3] = body.velocity
            data.qvel[6 * slot + 3 : 6 * slot + 6] = rotate_back(body.rotation, body.spin)
        if scene.paddle is not None:
            half = scene.paddle.yaw / 2
            data.mocap_quat[0] = (math.cos(half), 0.0, 0.0, math.sin(half))
        self._move_paddle(scene.paddle)
        mj.mj_forward(model, data)

    def _shape(self, geom: int, body: Body) -> None:
        model, owner = self._model, self._model.geom_bodyid[geom]
        model.geom_type[geom] = self._types[body.shape]
        model.geom_size[geom] = body.size
        model.geom_rbound[geom] = bounding_radius(body.shape, body.size)
        model.geom_aabb[geom] = (0, 0, 0, *half_extents(body.shape, body.size))
        model.geom_rgba[geom] = (*COLOURS[body.colour], 1.0)
        model.geom_contype[geom] = model.geom_conaffinity[geom] = 1
        model.geom_friction[geom, 0] = body.friction
        model.geom_solref[geom] = contact_softness(body.bounce)
        mass = body.density * volume(body.shape, body.size)
        model.body_mass[owner] = mass
        model.body_inertia[owner] = mass * np.asarray(unit_inertia(body.shape, body.size))


def _sky(look: Look) -> np.ndarray:
    """Six square faces one below the other: a plain background, slightly lighter at the top."""
    ramp = np.linspace(1.08, 0.92, SKY_SIDE)[:, None, None].repeat(SKY_SIDE, axis=1)
    face = np.clip(np.asarray(look.background) * ramp, 0, 1)
    up, down = np.full_like(face, face[0, 0]), np.full_like(face, face[-1, 0])
    return np.concatenate([face, face, up, down, face, face])


def _model_xml(timestep: float, side: int) -> str:
    bodies = "".join(
        f'<body name="body{i}" pos="0 0 {-20 - 5 * i}"><freejoint/>'
        f'<geom name="body{i}" type="sphere" size="0.5" solmix="1"/></body>'
        for i in range(MAX_BODIES)
    )
    edge = HALF_TABLE + 0.06
    rim, walls = "", ""
    for i, (x, y) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
        size = f"0.06 {edge + 0.06} 0.09" if x else f"{edge + 0.06} 0.06 0.09"
        rim += (
            f'<geom name="rim{i}" type="box" pos="{x * edge} {y * edge} 0.05" size="{size}" '
            'contype="0" conaffinity="0"/>'
        )
        walls += (
            f'<geom type="plane" pos="{x * HALF_TABLE} {y * HALF_TABLE} 0" size="1 1 1" '
            f'zaxis="{-x} {-y} 0" rgba="0 0 0 0" contype="0" conaffinity="1" '
            'friction="0.02 0 0" solmix="0.001"/>'
        )
    return f"""
<mujoco>
  <option timestep="{timestep!r}" gravity="0 0 {-GRAVITY}" cone="elliptic"
          integrator="implicitfast"><flag midphase="disable"/></option>
  <statistic extent="4" center="0 0 0"/>
  <visual>
    <global offwidth="{side}" offheight="{side}" fovy="{FOV_DEGREES}"/>
    <quality offsamples="0" numslices="24" numstacks="12" numquads="1"/>
    <map znear="0.05" zfar="20"/>
    <headlight active="1" ambient="0.42 0.42 0.42" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <asset>
    <texture name="table" type="2d" builtin="flat" width="{TEXTURE_SIDE}" height="{TEXTURE_SIDE}"/>
    <texture name="sky" type="skybox" builtin="gradient" width="{SKY_SIDE}"
             height="{6 * SKY_SIDE}"/>
    <material name="table" texture="table" specular="0" reflectance="0"/>
  </asset>
  <worldbody>
    <light type="directional" pos="0 0 6" castshadow="false" specular="0.1 0.1 0.1"/>
    <geom name="board" type="box" pos="0 0 -0.1" size="{HALF_TABLE} {HALF_TABLE} 0.1"
          material="table" contype="0" conaffinity="0"/>
    <geom name="table" type="plane" size="1 1 1" rgba="0 0 0 0" contype="0" conaffinity="1"
          friction="0.02 0 0" solmix="0.001"/>
    {rim}{walls}
    <body name="paddle" mocap="true">
      <geom name="paddle" type="box" size="0.1 2.1 0.4" rgba="0.35 0.36 0.4 1"
            contype="1" conaffinity="0" friction="0.1 0 0"/>
    </body>
    {bodies}
  </worldbody>
</mujoco>"""
