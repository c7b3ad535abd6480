"""The action convention of Bridge: how the gripper moved, seen from where it was.

An action has 7 numbers: the translation in the previous gripper frame (metres), the rotation as
roll, pitch and yaw of that frame (radians), and the opening of the gripper (0 closed, 1 open):

    translation = R_prevᵀ (p - p_prev)
    rotation = Euler(R_prevᵀ R) with R = Rz(yaw) Ry(pitch) Rx(roll)
"""

from __future__ import annotations

import math

import numpy as np

ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
ACTION_UNITS = ("m", "m", "m", "rad", "rad", "rad", "opening 0..1")
MAX_SHIFT, MAX_TURN = 0.06, 0.4
ACTION_LOW = np.array([-MAX_SHIFT] * 3 + [-MAX_TURN] * 3 + [0.0])
ACTION_HIGH = np.array([MAX_SHIFT] * 3 + [MAX_TURN] * 3 + [1.0])


def rotation(euler: np.ndarray) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll) of ``euler`` = (roll, pitch, yaw): ``3 3``."""
    roll, pitch, yaw = (float(angle) for angle in euler)
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def euler_angles(matrix: np.ndarray) -> np.ndarray:
    """(roll, pitch, yaw) of `rotation`; pitch in [-pi/2, pi/2], the others in (-pi, pi]."""
    pitch = math.atan2(-matrix[2, 0], math.hypot(matrix[0, 0], matrix[1, 0]))
    roll = math.atan2(matrix[2, 1], matrix[2, 2])
    yaw = math.atan2(matrix[1, 0], matrix[0, 0])
    return np.array([roll, pitch, yaw])


def motions(positions: np.ndarray, eulers: np.ndarray, openings: np.ndarray) -> np.ndarray:
    """Actions ``t-1 7`` that led from each frame to the next one.

    ``positions`` ``t 3`` in metres, ``eulers`` ``t 3`` in radians, ``openings`` ``t``. The opening
    is that of the later frame, as the reference has it.
    """
    turns = [rotation(euler) for euler in eulers]
    return np.stack(
        [
            np.concatenate(
                [
                    turns[i].T @ (positions[i + 1] - positions[i]),
                    euler_angles(turns[i].T @ turns[i + 1]),
                    openings[i + 1 : i + 2],
                ]
            )
            for i in range(len(positions) - 1)
        ]
    )
