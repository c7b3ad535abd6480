"""The table world: the scenes of the raw footage, one a clip, straight into shards.

The same bodies, looks and cameras as `openwfm simulate footage` films, without editing and without
curation: more scenes to pre-train on, beside curated ones. Also groups of equal bodies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openwfm.data.members import CameraTrack
from openwfm.randomness import derive_seed, numpy_generator
from openwfm.simulation import captions
from openwfm.simulation.camera import FOV_DEGREES, MOTIONS, draw_camera
from openwfm.simulation.config import check_one_of, check_picture, check_whole
from openwfm.simulation.groups import describe_group, draw_group, from_above
from openwfm.simulation.lens import Lens
from openwfm.simulation.looks import draw_look
from openwfm.simulation.scenarios import SCENARIOS, draw_scene
from openwfm.simulation.stage import Stage
from openwfm.simulation.worlds import WorldClip

STILL_SHARE = 0.5
GROUP = "group"


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Square pictures, ``width`` = ``height``; ``scenarios`` take turns.

    The camera stands still in a share ``still`` of the clips.
    """

    name: str = "table"
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    still: float = STILL_SHARE
    width: int = 64
    height: int = 64
    fps: int = 24
    num_frames: int = 49
    supersample: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "scenarios", tuple(self.scenarios))
        for scenario in self.scenarios or ("",):
            check_one_of("world.scenarios", scenario, (*SCENARIOS, GROUP))
        if not 0 <= self.still <= 1:
            raise ValueError(f"world.still={self.still}: must be a share in [0, 1]")
        check_picture("world", self.width, self.height, self.fps, self.supersample)
        if self.width != self.height:
            raise ValueError(f"world.height={self.height}: must equal world.width={self.width}")
        # Captions look at what happens in the first second.
        check_whole("world.num_frames", self.num_frames, self.fps + 1, 10_000)

    def open(self, seed: int, backend: str) -> TableWorld:
        return TableWorld(self, seed, backend)


class TableWorld:
    """Scenarios take turns; everything else is drawn."""

    def __init__(self, config: TableConfig, seed: int, backend: str) -> None:
        self.config, self.seed = config, seed
        self._stage = Stage(
            size=config.width, supersample=config.supersample, fps=config.fps, backend=backend
        )

    def close(self) -> None:
        self._stage.close()

    def film(self, index: int) -> WorldClip:
        config, names = self.config, self.config.scenarios
        rng = numpy_generator(self.seed, "table", index)
        scenario = names[index % len(names)]
        motion = "still" if rng.random() < config.still else str(rng.choice(MOTIONS[1:]))
        scene = draw_group(rng) if scenario == GROUP else draw_scene(rng, scenario)
        camera = draw_camera(rng, motion, scene.height)
        if scenario == GROUP:
            camera = from_above(camera, rng)
        look = draw_look(numpy_generator(derive_seed(self.seed, "table", index), "look"))
        frames, recording = self._stage.film(scene, look, camera, config.num_frames)
        lens = Lens(width=config.width, height=config.height, fovy=FOV_DEGREES)
        seconds = np.arange(config.num_frames) / config.fps
        if scenario == GROUP:
            caption = describe_group(scene, look, camera, rng)
        else:
            caption = captions.describe(scenario, scene, recording, look, camera, rng)
        return WorldClip(
            views={"main": frames},
            fps=float(config.fps),
            captions={"main": caption},
            group=index,
            tags=(scenario, f"camera_{motion}"),
            facts={
                "scenario": scenario,
                "camera": motion,
                "num_bodies": len(scene.bodies),
                **({"colour": scene.bodies[0].colour} if scenario == GROUP else {}),
            },
            cameras={
                "main": CameraTrack(
                    intrinsics=np.broadcast_to(lens.intrinsics(), (config.num_frames, 3, 3)),
                    camera_to_world=np.stack([camera.at(t).pose() for t in seconds.tolist()]),
                )
            },
            state={
                "positions": recording.positions.astype(np.float32),
                "contacts": np.array(recording.contacts, np.int32).reshape(-1, 3),
                "names": np.array([body.name for body in scene.bodies]),
            },
        )
