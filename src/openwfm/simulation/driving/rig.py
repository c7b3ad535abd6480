"""Six cameras on a car: where they stand, which way they look, and their poses on the road."""

from __future__ import annotations

import math

import numpy as np

# Metres forward, left and up from the car's centre on the ground; yaw in degrees to the left.
MOUNTS: dict[str, tuple[float, float, float, float]] = {
    "front": (0.9, 0.0, 1.6, 0.0),
    "front_left": (0.6, 0.5, 1.6, 55.0),
    "front_right": (0.6, -0.5, 1.6, -55.0),
    "rear_left": (-0.3, 0.5, 1.6, 110.0),
    "rear_right": (-0.3, -0.5, 1.6, -110.0),
    "rear": (-0.9, 0.0, 1.6, 180.0),
}
VIEWS = tuple(MOUNTS)
PITCH = math.radians(3.0)  # downwards: less sky, more road


def extrinsics(view: str) -> np.ndarray:
    """Camera to car, ``4 4``: OpenCV axes to x forward, y left, z up."""
    x, y, z, yaw = MOUNTS[view]
    cos, sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    level = np.array([cos, sin, 0.0])
    up = np.array([0.0, 0.0, 1.0])
    forward = math.cos(PITCH) * level - math.sin(PITCH) * up
    down = -math.sin(PITCH) * level - math.cos(PITCH) * up
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = np.cross(down, forward), down, forward
    pose[:3, 3] = x, y, z
    return pose


def car_poses(points: np.ndarray, headings: np.ndarray) -> np.ndarray:
    """Car to world, ``t 4 4``, from positions ``t 2`` on the ground and headings ``t``."""
    poses = np.tile(np.eye(4), (len(points), 1, 1))
    cos, sin = np.cos(headings), np.sin(headings)
    poses[:, 0, 0], poses[:, 0, 1], poses[:, 1, 0], poses[:, 1, 1] = cos, -sin, sin, cos
    poses[:, :2, 3] = points
    return poses
