"""Pictures and masks of what the simulator recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.lens import Lens
from openwfm.simulation.looks import Look
from openwfm.simulation.physics.framing import FOVY
from openwfm.simulation.physics.paint import (
    BOARD_COLOURS,
    FIXTURE_COLOURS,
    contrasting,
    faces,
    sky,
)
from openwfm.simulation.physics.recording import Recording
from openwfm.simulation.physics.scene import MAX_FIXTURES, Scene
from openwfm.simulation.physics.simulator import Simulator
from openwfm.simulation.render import Renderer
from openwfm.simulation.worlds import ClipRejectedError

MAX_GEOMS = 120
MIN_SHARE = 0.0015  # of the picture that a thing must cover at first to be seen: 6 of 64 x 64


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours of what is not a piece, by number."""

    fixture: int
    board: int


class Studio:
    """Renders the simulator's scenes from poses; ``lens`` is that of every camera."""

    def __init__(self, simulator: Simulator, lens: Lens, supersample: int, backend: str) -> None:
        self._simulator, self.lens = simulator, lens
        self._renderer = Renderer(
            simulator.model, backend, lens.width, lens.height, supersample, MAX_GEOMS
        )

    def close(self) -> None:
        self._renderer.close()

    def dress(self, scene: Scene, look: Look, palette: Palette) -> None:
        """Paint floor, background, light and everything in the scene."""
        model = self._simulator.model
        images = {"floor": np.rint(255 * look.texture).astype(np.uint8), "sky": sky(look)}
        for slot, piece in enumerate(scene.pieces):
            images[f"piece{slot}"] = faces(piece.body.colour, piece.pattern)
        if scene.wheel is not None:
            images["wheel"] = faces(scene.wheel.colour, scene.wheel.pattern)
        for name, image in images.items():
            start = model.tex_adr[model.texture(name).id]
            model.tex_data[start : start + image.size] = image.ravel()
        for name, colours, index in (
            ("fixture", FIXTURE_COLOURS, palette.fixture),
            ("board", BOARD_COLOURS, palette.board),
        ):
            colour = contrasting(colours, look.texture.mean((0, 1)), index)
            model.mat_rgba[model.material(name).id, :3] = colour
        model.light_dir[0] = np.asarray(look.light) / np.linalg.norm(look.light)
        model.light_diffuse[0] = 0.62 * look.brightness
        self._renderer.upload_textures()

    def instances(self, scene: Scene) -> tuple[np.ndarray, tuple[str, ...]]:
        """The instance of every geom id (and of -1, last), and the instances' names: background
        and floor are 0, then what moves in the order of ``Scene.names``, then fixtures."""
        simulator = self._simulator
        table = np.zeros(simulator.model.ngeom + 1, np.uint8)
        count = len(scene.pieces)
        table[simulator.pieces[:count]] = range(1, count + 1)
        table[[simulator.plank, simulator.wheel, simulator.axle]] = count + 1
        names = list(dict.fromkeys(fixture.name for fixture in scene.fixtures))
        for geom, fixture in zip(simulator.fixtures, scene.fixtures, strict=False):
            table[geom] = 1 + len(scene.names) + names.index(fixture.name)
        return table, ("background", *scene.names, *names)

    def check_visible(self, scene: Scene, poses: Mapping[str, np.ndarray]) -> None:
        """Raises ClipRejectedError unless every view shows everything in the placed scene."""
        table, names = self.instances(scene)
        least = max(1, math.floor(MIN_SHARE * self.lens.width * self.lens.height))
        for view, pose in poses.items():
            seen = np.bincount(self._mask(table, pose).ravel(), minlength=len(names))
            hidden = [name for name, pixels in zip(names, seen, strict=True) if pixels < least]
            if hidden and hidden != ["background"]:
                raise ClipRejectedError(
                    "hidden", f"{', '.join(hidden)}: under {least} pixels at first in view {view}"
                )

    def film(
        self, scene: Scene, recording: Recording, poses: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """uint8 videos ``t h w c`` and masks ``t h w``, by view."""
        table, _ = self.instances(scene)
        size = (recording.num_frames, self.lens.height, self.lens.width)
        videos = {view: np.empty((*size, 3), np.uint8) for view in poses}
        masks = {view: np.empty(size, np.uint8) for view in poses}
        casters = self._casters(scene)
        for frame in range(recording.num_frames):
            self._simulator.show(recording, frame)
            for view, pose in poses.items():
                videos[view][frame] = self._renderer.render(
                    self._simulator.data, FOVY, pose, casters
                )
                masks[view][frame] = self._mask(table, pose)
        return videos, masks

    def _mask(self, table: np.ndarray, pose: np.ndarray) -> np.ndarray:
        geoms, _ = self._renderer.render_truth(self._simulator.data, FOVY, pose)
        return np.asarray(table[geoms])

    def _casters(self, scene: Scene) -> list[int]:
        # Under a trough a shadow would lie on the floor as if there were no trough.
        if len(scene.fixtures) > MAX_FIXTURES // 2:
            return []
        simulator = self._simulator
        casters = simulator.pieces[: len(scene.pieces)]
        casters += [simulator.plank] if scene.plank else []
        casters += [simulator.wheel] if scene.wheel else []
        return casters + simulator.fixtures[: len(scene.fixtures)]
