"""Errors of camera paths, whose reconstruction has axes and a unit of length of its own.

Poses are camera-to-world with OpenCV axes. Angles are in degrees.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Array = np.ndarray


def rotation_angle(rotations: Float[Array, "*n 3 3"]) -> Float[Array, "*n"]:
    """How far each turns; by the arc tangent, which is exact for small angles too."""
    axis = np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        axis=-1,
    )
    trace = np.trace(rotations, axis1=-2, axis2=-1)
    angle: Array = np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1), trace - 1))
    return angle


def nearest_rotation(matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """In the Frobenius norm; of a sum of rotations it is their mean."""
    u, _, vt = np.linalg.svd(matrix)
    rotation: Array = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return rotation


def similarity(
    found: Float[Array, "n 3"], true: Float[Array, "n 3"]
) -> tuple[float, Float[Array, "3 3"], Float[Array, " 3"]]:
    """(scale, rotation, shift) with which ``found`` fits ``true`` best (Umeyama 1991, equations
    40 to 42). Points that coincide give scale 1."""
    a, b = found - found.mean(0), true - true.mean(0)
    u, singular, vt = np.linalg.svd(b.T @ a)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    spread = float((a**2).sum())
    scale = float((singular * signs).sum()) / spread if spread > 1e-12 else 1.0
    rotation = u @ np.diag(signs) @ vt
    return scale, rotation, true.mean(0) - scale * rotation @ found.mean(0)


def rotation_error(found: Float[Array, "n 3 3"], true: Float[Array, "n 3 3"]) -> float:
    """Mean angle between turns, both seen from the first camera of the path."""
    relative = [turns[:1].transpose(0, 2, 1) @ turns for turns in (found, true)]
    return float(rotation_angle(relative[0][1:].transpose(0, 2, 1) @ relative[1][1:]).mean())


def translation_error(found: Float[Array, "n 4 4"], true: Float[Array, "n 4 4"]) -> float:
    """Mean distance of camera centres over the length of the true path, after alignment.

    The axes are those that fit the turns of all cameras best: centres alone leave the turn about
    a straight path open. Scale is by least squares, never below zero: a path into the opposite
    direction is not a path of negative size. 0.5 and more is what standing still gets.
    """
    turn = nearest_rotation((true[:, :3, :3] @ found[:, :3, :3].transpose(0, 2, 1)).sum(0))
    centres, wanted = found[:, :3, 3] @ turn.T, true[:, :3, 3]
    a, b = centres - centres.mean(0), wanted - wanted.mean(0)
    spread = float((a**2).sum())
    scale = max(float((a * b).sum()) / spread, 0.0) if spread > 1e-12 else 0.0
    length = float(np.linalg.norm(np.diff(wanted, axis=0), axis=1).sum())
    return float(np.linalg.norm(scale * a - b, axis=1).mean()) / max(length, 1e-9)
