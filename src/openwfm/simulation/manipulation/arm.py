"""The arm that carries the gripper: six joints whose angles follow from the gripper's pose.

A turret turns about the vertical, two links of equal plane carry a wrist whose three axes meet in
one point. The wrist stands above the gripper along the gripper's own z axis, so the inverse is a
triangle and one rotation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.manipulation.actions import euler_angles, rotation

SHOULDER = np.array([-0.36, 0.0, 0.17])
UPPER, FORE, HAND = 0.33, 0.35, 0.15  # metres


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmPose:
    """Joint positions in metres, ``3`` each, and ``angles`` in radians: turret, shoulder (above
    the horizon), elbow (bend of the forearm, negative is down), and roll, pitch, yaw of the
    gripper against the forearm."""

    elbow: np.ndarray
    wrist: np.ndarray
    angles: np.ndarray


def solve(position: np.ndarray, turn: np.ndarray) -> ArmPose:
    """The arm with the elbow up whose gripper is at ``position`` with axes ``turn`` ``3 3``.

    A wrist out of reach is drawn at full stretch towards it.
    """
    wrist = position + HAND * turn[:, 2]
    offset = wrist - SHOULDER
    flat = math.hypot(offset[0], offset[1])
    turret = math.atan2(offset[1], offset[0])
    distance = min(max(math.hypot(flat, offset[2]), abs(UPPER - FORE) + 1e-6), UPPER + FORE - 1e-6)
    lift = math.acos((UPPER**2 + distance**2 - FORE**2) / (2 * UPPER * distance))
    bend = math.acos((UPPER**2 + FORE**2 - distance**2) / (2 * UPPER * FORE)) - math.pi
    shoulder = math.atan2(offset[2], flat) + lift
    hand = euler_angles(rotation(np.array([0, -(shoulder + bend), turret])).T @ turn)
    angles = np.array([turret, shoulder, bend, *hand])
    return _stand(angles)


def _stand(angles: np.ndarray) -> ArmPose:
    turret, shoulder, bend = angles[:3]
    upper = rotation(np.array([0, -shoulder, turret]))[:, 0]
    fore = rotation(np.array([0, -(shoulder + bend), turret]))[:, 0]
    elbow = SHOULDER + UPPER * upper
    return ArmPose(elbow=elbow, wrist=elbow + FORE * fore, angles=angles)


def gripper_of(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position ``3`` and axes ``3 3`` of the gripper for joint ``angles``."""
    wrist = _stand(angles).wrist
    turn = rotation(np.array([0, -(angles[1] + angles[2]), angles[0]])) @ rotation(angles[3:])
    return wrist - HAND * turn[:, 2], turn


def along(direction: np.ndarray) -> np.ndarray:
    """Quaternion (w, x, y, z) of the shortest turn from the z axis to ``direction``."""
    x, y, z = direction / np.linalg.norm(direction)
    quaternion = np.array([1 + z, -y, x, 0.0]) if z > -1 + 1e-9 else np.array([0.0, 1, 0, 0])
    return quaternion / np.linalg.norm(quaternion)
