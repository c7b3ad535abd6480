"""Where the table is watched from, and pictures of it: one fixed camera, one on the wrist."""

from __future__ import annotations

import numpy as np

from openwfm.simulation.lens import Lens, look_at
from openwfm.simulation.manipulation.actions import rotation
from openwfm.simulation.manipulation.arm import HAND
from openwfm.simulation.manipulation.simulator import Simulator, Truth
from openwfm.simulation.render import Renderer

EYE, TARGET, FOVY = (0.60, -0.52, 0.56), (-0.01, 0.02, 0.055), 35.0
WRIST_EYE, WRIST_TARGET, WRIST_FOVY = (0.10, 0.0, HAND), (0.01, 0.0, 0.0), 70.0
VIEWS = ("main", "wrist")
SHADOWED = ("palm", "fore", "left", "right", "base", "front")
MAX_GEOMS = 96


def lens(view: str, width: int, height: int) -> Lens:
    return Lens(width=width, height=height, fovy=FOVY if view == "main" else WRIST_FOVY)


def pose(view: str, truth: Truth) -> np.ndarray:
    """Camera-to-world ``4 4``, OpenCV axes."""
    if view == "main":
        return look_at(np.array(EYE), np.array(TARGET))
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = rotation(truth.euler), truth.position
    return turn @ look_at(np.array(WRIST_EYE), np.array(WRIST_TARGET), (1.0, 0.0, 0.0))


class Pictures:
    """Draws the simulator's present state."""

    def __init__(
        self, simulator: Simulator, backend: str, width: int, height: int, supersample: int
    ) -> None:
        self._simulator, self._size = simulator, (width, height)
        self._renderer = Renderer(
            simulator.model, backend, width, height, supersample, max_geoms=MAX_GEOMS
        )
        self._shadowed = [simulator.geom(name) for name in SHADOWED]

    def close(self) -> None:
        self._renderer.close()

    def dress(self) -> None:
        """After a new scene was started: show its textures."""
        self._renderer.upload_textures()

    def picture(self, view: str) -> np.ndarray:
        """uint8 ``h w 3``."""
        simulator = self._simulator
        blocks = [simulator.geom(f"block{i}") for i in range(len(simulator.scene.blocks))]
        return self._renderer.render(
            simulator.data,
            lens(view, *self._size).fovy,
            pose(view, simulator.read()),
            [*self._shadowed, *blocks],
        )

    def geoms(self, view: str) -> np.ndarray:
        """int32 ``h w``: the geom seen at each pixel, -1 for the background."""
        fovy = lens(view, *self._size).fovy
        return self._renderer.render_truth(
            self._simulator.data, fovy, pose(view, self._simulator.read())
        )[0]
