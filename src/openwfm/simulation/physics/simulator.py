"""Physics without pictures: a scene written into the model's slots, and stepped."""

from __future__ import annotations

import math

import numpy as np

from openwfm.extras import require
from openwfm.simulation.bodies import (
    Body,
    bounding_radius,
    contact_softness,
    half_extents,
    rotate_back,
    unit_inertia,
)
from openwfm.simulation.physics.model import PARKED, model_xml
from openwfm.simulation.physics.recording import FIXTURE, FLOOR, Recording, turn_vectors
from openwfm.simulation.physics.scene import (
    MAX_FIXTURES,
    MAX_PIECES,
    Fixture,
    Piece,
    Plank,
    Scene,
    Wheel,
    compose,
    turn,
)
from openwfm.simulation.worlds import check_stable

PHYSICS_RATE = 960
CONTACT_STEPS = 8  # steps between two looks at the contacts: shorter than an impact
STIFFNESS = 300.0  # rad/s of a contact's spring: an impact lasts a hundredth of a second
PLAIN, HIDDEN = 0, 5  # geom groups
FREE, FREE_SPEED = 7 * MAX_PIECES, 6 * MAX_PIECES


class Simulator:
    """One compiled model. What it records depends on the scene alone, not on those before it."""

    def __init__(self, fps: float, width: int = 64, height: int = 64) -> None:
        self._mujoco = mj = require("mujoco", extra="simulation")
        self._fps, self._substeps = fps, math.ceil(PHYSICS_RATE / fps)
        xml = model_xml(1 / (fps * self._substeps), width, height)
        self.model = model = mj.MjModel.from_xml_string(xml)
        self.data = mj.MjData(model)
        self._types = {
            shape: getattr(mj.mjtGeom, f"mjGEOM_{shape.upper()}").value
            for shape in ("sphere", "box", "cylinder", "capsule", "ellipsoid")
        }
        self.pieces = [model.geom(f"piece{i}").id for i in range(MAX_PIECES)]
        self.fixtures = [model.geom(f"fixture{i}").id for i in range(MAX_FIXTURES)]
        self.plank, self.wheel, self.axle = (model.geom(n).id for n in ("plank", "wheel", "axle"))
        self._labels = np.full(model.ngeom, FIXTURE)
        self._labels[self.pieces] = range(MAX_PIECES)
        self._labels[model.geom("floor").id] = FLOOR

    def place(self, scene: Scene) -> None:
        """The scene at its first moment, everything else parked."""
        mj, model, data = self._mujoco, self.model, self.data
        assert len(scene.pieces) <= MAX_PIECES and len(scene.fixtures) <= MAX_FIXTURES
        integrators = mj.mjtIntegrator
        # A fast top gains energy in one explicit step after the other.
        fast = integrators.mjINT_RK4 if scene.wheel else integrators.mjINT_IMPLICITFAST
        model.opt.integrator, model.opt.gravity[2] = fast.value, -scene.gravity
        model.opt.timestep = 1 / (self._fps * self._steps(scene))
        self._shape_pieces(scene.pieces)
        for slot, geom in enumerate(self.fixtures):
            fixture = scene.fixtures[slot] if slot < len(scene.fixtures) else None
            self._shape_fixture(geom, fixture, slot)
        self._shape_plank(scene.plank)
        self._shape_wheel(scene.wheel)
        self._labels[self.plank] = len(scene.pieces)
        mj.mj_resetData(model, data)
        mj.mj_setConst(model, data)
        mj.mj_resetData(model, data)
        for slot, piece in enumerate(scene.pieces):
            body, at, speed = piece.body, 7 * slot, 6 * slot
            data.qpos[at : at + 7] = (*body.position, *body.rotation)
            data.qvel[speed : speed + 3] = body.velocity
            data.qvel[speed + 3 : speed + 6] = rotate_back(body.rotation, body.spin)
        if scene.wheel is not None:
            self._start_wheel(scene.wheel, scene.gravity)
        mj.mj_forward(model, data)

    def record(self, scene: Scene, num_frames: int) -> Recording:
        """``num_frames`` frames of the scene. Raises ClipRejectedError when it explodes."""
        mj, model, data = self._mujoco, self.model, self.data
        self.place(scene)
        leapfrog = scene.wheel is None
        if leapfrog:
            # Semi-implicit Euler is a leapfrog whose speeds stand half a step behind the places,
            # if they start there: a fall is then exact.
            data.qvel[:] -= 0.5 * model.opt.timestep * data.qacc
        places, speeds = np.empty((num_frames, model.nq)), np.empty((num_frames, model.nv))
        contacts: set[tuple[int, int, int]] = set()
        steps = self._steps(scene)
        for frame in range(num_frames):
            places[frame], before = data.qpos, data.qvel.copy()
            mj.mj_step(model, data)
            speeds[frame] = 0.5 * (before + data.qvel) if leapfrog else before
            contacts.update((frame, *pair) for pair in self._touching())
            for done in range(1, steps if frame < num_frames - 1 else 1, CONTACT_STEPS):
                mj.mj_step(model, data, min(CONTACT_STEPS, steps - done))
                contacts.update((frame, *pair) for pair in self._touching())
            check_stable(data)
        return self._recording(scene, places, speeds, contacts)

    def _steps(self, scene: Scene) -> int:
        """For each frame. A light board between heavy things gains energy at 960 steps a second
        (up to four times what there was, in 5 of 28 scenes) and none at twice as many."""
        return self._substeps * (2 if scene.plank else 1)

    def show(self, recording: Recording, frame: int) -> None:
        """Put everything where it was at ``frame``, for the renderer."""
        self.data.qpos[:] = recording.joints[frame]
        self._mujoco.mj_kinematics(self.model, self.data)

    def _touching(self) -> set[tuple[int, int]]:
        if not self.data.ncon:
            return set()
        pairs = self._labels[self.data.contact.geom]
        return {(max(a, b), min(a, b)) for a, b in pairs.tolist()}

    def _shape_pieces(self, pieces: tuple[Piece, ...]) -> None:
        model = self.model
        for slot, geom in enumerate(self.pieces):
            used, owner = slot < len(pieces), model.geom_bodyid[geom]
            model.geom_group[geom] = PLAIN if used else HIDDEN
            model.geom_contype[geom] = model.geom_conaffinity[geom] = used
            model.body_gravcomp[owner] = not used
            if used:
                self._shape_piece(geom, owner, pieces[slot].body, pieces[slot].mass)

    def _shape_piece(self, geom: int, owner: int, body: Body, mass: float) -> None:
        model = self.model
        model.geom_type[geom], model.geom_size[geom] = self._types[body.shape], body.size
        model.geom_rbound[geom] = bounding_radius(body.shape, body.size)
        model.geom_aabb[geom] = (0, 0, 0, *half_extents(body.shape, body.size))
        model.geom_friction[geom, 0] = body.friction
        model.geom_solref[geom] = contact_softness(body.bounce, STIFFNESS)
        model.body_mass[owner] = mass
        model.body_inertia[owner] = mass * np.asarray(unit_inertia(body.shape, body.size))

    def _shape_fixture(self, geom: int, fixture: Fixture | None, slot: int) -> None:
        model = self.model
        model.geom_group[geom] = HIDDEN if fixture is None else PLAIN
        solid = fixture is not None and fixture.solid
        model.geom_contype[geom] = model.geom_conaffinity[geom] = solid
        model.geom_pos[geom], model.geom_quat[geom] = (2 + slot, 0, PARKED), (1, 0, 0, 0)
        if fixture is not None:
            size = fixture.size
            model.geom_type[geom], model.geom_size[geom] = self._types[fixture.shape], size
            model.geom_rbound[geom] = bounding_radius(fixture.shape, size)
            model.geom_aabb[geom] = (0, 0, 0, *half_extents(fixture.shape, size))
            model.geom_pos[geom], model.geom_quat[geom] = fixture.position, fixture.rotation

    def _shape_plank(self, plank: Plank | None) -> None:
        model, geom = self.model, self.plank
        owner = model.geom_bodyid[geom]
        model.geom_group[geom] = HIDDEN if plank is None else PLAIN
        model.geom_contype[geom] = model.geom_conaffinity[geom] = plank is not None
        model.body_gravcomp[owner] = plank is None
        model.body_pos[owner] = (0, -2, PARKED) if plank is None else (0, 0, plank.height)
        if plank is not None:
            model.geom_size[geom], model.geom_aabb[geom, 3:] = plank.half, plank.half
            model.geom_rbound[geom] = math.hypot(*plank.half)
            model.geom_solref[geom] = contact_softness(0.2, STIFFNESS)
            model.body_mass[owner] = plank.mass
            model.body_inertia[owner] = plank.mass * np.asarray(unit_inertia("box", plank.half))

    def _shape_wheel(self, wheel: Wheel | None) -> None:
        model, owner = self.model, self.model.geom_bodyid[self.wheel]
        for geom in (self.wheel, self.axle):
            model.geom_group[geom] = HIDDEN if wheel is None else PLAIN
        model.body_gravcomp[owner] = wheel is None
        model.body_pos[owner] = (0, 2, PARKED) if wheel is None else (0, 0, wheel.height)
        if wheel is not None:
            model.body_mass[owner], model.body_ipos[owner] = wheel.mass, (0, 0, wheel.arm)
            own, across = wheel.inertia
            model.body_inertia[owner] = (across, across, own)
            model.geom_pos[self.wheel] = (0, 0, wheel.arm)
            model.geom_size[self.wheel] = (wheel.radius, wheel.half_width, 0)
            half = 0.5 * (wheel.arm + 3 * wheel.half_width)
            model.geom_pos[self.axle], model.geom_size[self.axle] = (0, 0, half), (0.012, half, 0)
            for geom in (self.wheel, self.axle):
                model.geom_rbound[geom] = wheel.arm + wheel.radius

    def _start_wheel(self, wheel: Wheel, gravity: float) -> None:
        aside = math.pi / 2 - wheel.tilt
        rotation = compose(turn((0, 0, 1), wheel.azimuth), turn((0, 1, 0), aside))
        self.data.qpos[FREE + 1 : FREE + 5] = rotation
        swing = rotate_back(rotation, (0.0, 0.0, wheel.precession(gravity)))
        # ``spin`` is the whole turning about the axle, with the part of the precession along it.
        self.data.qvel[FREE_SPEED + 1 : FREE_SPEED + 4] = (swing[0], swing[1], wheel.spin)

    def _recording(
        self,
        scene: Scene,
        places: np.ndarray,
        speeds: np.ndarray,
        contacts: set[tuple[int, int, int]],
    ) -> Recording:
        """Places and speeds of joints, ``t q`` and ``t v``, as those of bodies in the world."""
        model, count, frames = self.model, len(scene.pieces), len(places)
        free = places[:, :FREE].reshape(frames, MAX_PIECES, 7)[:, :count]
        moving = speeds[:, :FREE_SPEED].reshape(frames, MAX_PIECES, 6)[:, :count]
        owners = [int(model.geom_bodyid[geom]) for geom in self.pieces[:count]]
        positions, rotations, velocities = [free[..., :3]], [free[..., 3:]], [moving[..., :3]]
        spins = [turn_vectors(free[..., 3:], moving[..., 3:])]
        if scene.plank is not None:
            half, zero = places[:, FREE] / 2, np.zeros((frames, 1))
            owners.append(int(model.geom_bodyid[self.plank]))
            positions.append(np.tile([0, 0, scene.plank.height], (frames, 1, 1)))
            velocities.append(np.zeros((frames, 1, 3)))
            rotations.append(
                np.stack([np.cos(half), 0 * half, np.sin(half), 0 * half], -1)[:, None]
            )
            spins.append(np.stack([zero, speeds[:, FREE_SPEED, None], zero], -1))
        if scene.wheel is not None:
            owners.append(int(model.geom_bodyid[self.wheel]))
            rotation = places[:, None, FREE + 1 : FREE + 5]
            spin = turn_vectors(rotation, speeds[:, None, FREE_SPEED + 1 : FREE_SPEED + 4])
            arm = turn_vectors(rotation, np.tile([0, 0, scene.wheel.arm], (frames, 1, 1)))
            positions.append(arm + [0, 0, scene.wheel.height])
            velocities.append(np.cross(spin, arm))
            rotations.append(rotation)
            spins.append(spin)
        return Recording(
            positions=np.concatenate(positions, 1),
            rotations=np.concatenate(rotations, 1),
            velocities=np.concatenate(velocities, 1),
            spins=np.concatenate(spins, 1),
            masses=model.body_mass[owners].copy(),
            inertias=model.body_inertia[owners].copy(),
            contacts=np.array(sorted(contacts), np.int32).reshape(-1, 3),
            joints=places,
            gravity=scene.gravity,
        )
