"""Where a camera stands and what its lens does: exact, in the axes that the platform stores.

A pose is a 4×4 camera-to-world matrix with OpenCV axes (x right, y down, z forward), metres. Image
coordinates are pixels with the origin at the outer corner of the top left pixel (its centre is
0.5, 0.5), as COLMAP has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A pinhole with square pixels and centred axis; ``fovy`` is the vertical angle in degrees."""

    width: int
    height: int
    fovy: float

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or not 0 < self.fovy < 180:
            raise ValueError(
                f"lens={self.width}x{self.height}, {self.fovy} degrees: sizes must be positive and "
                "fovy between 0 and 180"
            )

    @property
    def focal(self) -> float:
        """Pixels."""
        return 0.5 * self.height / math.tan(math.radians(self.fovy) / 2)

    def intrinsics(self) -> np.ndarray:
        """The matrix K, ``3 3``."""
        f = self.focal
        return np.array([[f, 0, self.width / 2], [0, f, self.height / 2], [0, 0, 1.0]])


def project(points: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """World points ``n 3`` to (column, row, depth) ``n 3``: pixels, pixels, metres along z.

    Points behind the camera have a depth of zero or less and a meaningless column and row.
    """
    local = (np.asarray(points, np.float64) - pose[:3, 3]) @ pose[:3, :3]
    image = local @ np.asarray(intrinsics, np.float64).T
    depth = image[:, 2:]
    return np.concatenate([image[:, :2] / np.where(depth == 0, np.nan, depth), depth], axis=1)


def look_at(
    eye: np.ndarray, target: np.ndarray, up: tuple[float, float, float] = (0.0, 0.0, 1.0)
) -> np.ndarray:
    """Pose ``4 4`` at ``eye`` that looks at ``target`` with ``up`` towards the picture's top.

    Raises ValueError when the line of sight is parallel to ``up`` or has no length.
    """
    eye, target = np.asarray(eye, np.float64), np.asarray(target, np.float64)
    forward = target - eye
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9:
        raise ValueError(f"look_at: eye={eye}, target={target}: must not lie along up={up}")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(forward, right), forward
    pose[:3, 3] = eye
    return pose
