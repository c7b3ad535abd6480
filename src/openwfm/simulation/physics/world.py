"""The physics world: scenes of eight kinds, filmed by static cameras."""

from __future__ import annotations

from typing import Any

import numpy as np

from openwfm.data.members import CameraTrack
from openwfm.randomness import numpy_generator
from openwfm.simulation.lens import Lens
from openwfm.simulation.looks import Look, draw_look
from openwfm.simulation.physics.captions import describe
from openwfm.simulation.physics.config import PhysicsConfig
from openwfm.simulation.physics.controls import apply_control
from openwfm.simulation.physics.counterfactual import alter
from openwfm.simulation.physics.framing import FOVY, surround
from openwfm.simulation.physics.paint import BOARD_COLOURS, FIXTURE_COLOURS
from openwfm.simulation.physics.recording import Recording
from openwfm.simulation.physics.scenarios import DRAWS
from openwfm.simulation.physics.scene import Scene
from openwfm.simulation.physics.simulator import Simulator
from openwfm.simulation.physics.studio import Palette, Studio
from openwfm.simulation.worlds import ClipRejectedError, WorldClip

STANDS = 8  # places of the cameras tried for a scene before it is given up
# Joules, as a share of all that can be set free: more than a real world may gain.
MAX_GAIN = 0.05


class PhysicsWorld:
    """See `openwfm.simulation.worlds.World`."""

    def __init__(self, config: PhysicsConfig, seed: int, backend: str) -> None:
        self._config, self._seed = config, seed
        scale = config.supersample
        self._lens = Lens(width=config.width, height=config.height, fovy=FOVY)
        self._simulator = Simulator(config.fps, config.width * scale, config.height * scale)
        self._studio = Studio(self._simulator, self._lens, scale, backend)

    def close(self) -> None:
        self._studio.close()

    def film(self, index: int) -> WorldClip:
        """Raises ClipRejectedError: ``hidden`` when something cannot be seen at first from where
        the cameras may stand, ``unstable`` when the simulation explodes."""
        config = self._config
        pairs = config.counterfactual != "none"
        group = index // 2 if pairs else index
        scenario = config.scenarios[group % len(config.scenarios)]
        scene = DRAWS[scenario](self._generator("scene", group))
        look, poses = self._dress_and_stand(scene, group)
        facts: dict[str, Any] = {}
        if pairs:
            draw = self._generator("counterfactual", group)
            altered, change = alter(scene, config.counterfactual, draw)
            facts["counterfactual"] = {**change, "changed": index % 2 == 1}
            if index % 2:
                scene = altered
                self._dress_and_stand(scene, group)
                self._studio.check_visible(scene, poses)
        recording = self._simulator.record(scene, config.num_frames)
        check_energy(recording)
        videos, masks = self._studio.film(scene, recording, poses)
        floor = look.table_name.replace("table", "floor")
        captions = {
            view: describe(scene, recording, floor, pose, self._generator("wording", index))
            for view, pose in poses.items()
        }
        clip = WorldClip(
            views=videos,
            fps=float(config.fps),
            captions=captions,
            group=group,
            tags=("physics", scenario),
            facts={**describe_facts(scene), **facts},
            cameras={view: self._track(pose) for view, pose in poses.items()},
            state=state_arrays(scene, recording),
            masks=masks,
            mask_names=self._studio.instances(scene)[1],
        )
        return apply_control(clip, config.control, self._generator("control", group))

    def _generator(self, purpose: str, position: int) -> np.random.Generator:
        return numpy_generator(self._seed, f"physics/{purpose}", position)

    def _dress_and_stand(self, scene: Scene, group: int) -> tuple[Look, dict[str, np.ndarray]]:
        """Paint the scene, put it in its first state, and find a place for the cameras."""
        draw = self._generator("look", group)
        look = draw_look(draw)
        palette = Palette(
            fixture=int(draw.integers(len(FIXTURE_COLOURS))),
            board=int(draw.integers(len(BOARD_COLOURS))),
        )
        self._simulator.place(scene)
        self._studio.dress(scene, look, palette)
        draw, problem = self._generator("cameras", group), None
        for _ in range(STANDS):
            poses = surround(scene, self._lens, self._config.cameras, draw)
            try:
                self._studio.check_visible(scene, poses)
            except ClipRejectedError as error:
                problem = error
            else:
                return look, poses
        assert problem is not None
        raise problem

    def _track(self, pose: np.ndarray) -> CameraTrack:
        frames = self._config.num_frames
        return CameraTrack(
            intrinsics=np.tile(self._lens.intrinsics(), (frames, 1, 1)),
            camera_to_world=np.tile(pose, (frames, 1, 1)),
        )


def check_energy(recording: Recording) -> None:
    """Raises ClipRejectedError when energy came from nowhere: there is no motor in any scene."""
    energy = recording.energy()
    scale = energy[0] - recording.potential().sum(1).min() + 1e-3
    gain = (energy.max() - energy[0]) / scale
    if gain > MAX_GAIN:
        raise ClipRejectedError("unstable", f"energy grew by {100 * gain:.1f} percent")


def state_arrays(scene: Scene, recording: Recording) -> dict[str, np.ndarray]:
    """``state.npz``: ``t n …`` in SI units, ``names`` ``n``, and ``contacts`` ``k 3`` of (frame,
    body, other) with -1 for the floor and -2 for a fixture."""
    return {
        "names": np.array(scene.names),
        "positions": recording.positions.astype(np.float32),
        "rotations": recording.rotations.astype(np.float32),
        "linear_velocities": recording.velocities.astype(np.float32),
        "angular_velocities": recording.spins.astype(np.float32),
        "kinetic_energy": recording.kinetic().astype(np.float32),
        "potential_energy": recording.potential().astype(np.float32),
        "masses": recording.masses.astype(np.float32),
        "contacts": recording.contacts,
    }


def describe_facts(scene: Scene) -> dict[str, Any]:
    """Parameters of the scene as JSON values."""
    bodies = [
        {
            "name": piece.name,
            "shape": piece.body.shape,
            "size_m": [float(value) for value in piece.body.size],
            "pattern": piece.pattern,
            "mass_kg": float(piece.mass),
            "friction": float(piece.body.friction),
            "bounce": float(piece.body.bounce),
        }
        for piece in scene.pieces
    ]
    return {
        "scenario": scene.scenario,
        "gravity_m_s2": scene.gravity,
        "num_objects": len(scene.names),
        "bodies": bodies,
        "parameters": {
            key: value if isinstance(value, str) else float(value)
            for key, value in scene.facts.items()
        },
    }
