"""Where the static cameras stand: all round the scene, as near as they can with all of it in."""

from __future__ import annotations

import itertools
import math

import numpy as np

from openwfm.simulation.lens import Lens, look_at
from openwfm.simulation.physics.scene import Scene

VIEWS = ("front", "left", "back", "right")
FOVY = 42.0
BORDER = 0.94  # of the half picture that the scene may fill


def view_names(cameras: int) -> tuple[str, ...]:
    return ("main",) if cameras == 1 else VIEWS


def stand(scene: Scene, lens: Lens, azimuth: float, elevation: float) -> np.ndarray:
    """Pose ``4 4`` of a camera in the direction (degrees) from which it looks at the middle of the
    scene's box, at the least distance that shows its eight corners."""
    low, high = np.asarray(scene.low), np.asarray(scene.high)
    middle = (low + high) / 2
    a, e = math.radians(azimuth), math.radians(elevation)
    outward = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
    pose = look_at(middle + outward, middle)
    corners = np.array(list(itertools.product(*zip(low, high, strict=True)))) - middle
    x, y, z = (corners @ pose[:3, :3]).T
    reach = BORDER * np.array([lens.width, lens.height]) / (2 * lens.focal)
    distance = np.maximum(np.abs(x) / reach[0], np.abs(y) / reach[1]) - z
    pose[:3, 3] = middle + distance.max() * outward
    return pose


def surround(
    scene: Scene, lens: Lens, cameras: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Poses by view: four are a quarter turn apart, each next one to the left of the last as seen
    from the middle of the scene."""
    azimuth = float(rng.uniform(0, 360))
    poses = {}
    for index, view in enumerate(view_names(cameras)):
        elevation = float(rng.uniform(*scene.elevation))
        poses[view] = stand(scene, lens, azimuth + 90 * index, elevation)
    return poses
