"""Rigid bodies: what they look like, where they start, and how heavy they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

NOUNS = {
    "sphere": "ball",
    "box": "box",
    "cylinder": "cylinder",
    "capsule": "capsule",
    "ellipsoid": "ellipsoid",
}
SHAPES = tuple(NOUNS)

COLOURS: dict[str, Vector] = {
    "red": (0.85, 0.13, 0.12),
    "green": (0.12, 0.62, 0.22),
    "blue": (0.13, 0.30, 0.85),
    "yellow": (0.95, 0.80, 0.10),
    "orange": (0.97, 0.48, 0.06),
    "purple": (0.52, 0.18, 0.70),
    "cyan": (0.10, 0.72, 0.80),
    "pink": (0.95, 0.45, 0.65),
}

UPRIGHT: Quaternion = (1.0, 0.0, 0.0, 0.0)
AT_REST: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Body:
    """One body at the first frame: metres, metres a second, radians a second, world axes, z up.

    ``size`` as MuJoCo has it: half extents of a box or an ellipsoid, radius (and half length,
    along the body's own z) of the round shapes. ``bounce`` is the restitution on a hard table.
    """

    shape: str
    size: Vector
    colour: str
    position: Vector
    rotation: Quaternion = UPRIGHT
    velocity: Vector = AT_REST
    spin: Vector = AT_REST
    friction: float = 0.3
    bounce: float = 0.3
    density: float = 100.0

    @property
    def name(self) -> str:
        return f"{self.colour} {NOUNS[self.shape]}"


def half_extents(shape: str, size: Vector) -> Vector:
    """Half sides of the bounding box in the body's own axes."""
    radius, second, _ = size
    if shape == "sphere":
        return (radius, radius, radius)
    if shape == "cylinder":
        return (radius, radius, second)
    if shape == "capsule":
        return (radius, radius, second + radius)
    return size


def bounding_radius(shape: str, size: Vector) -> float:
    extents = half_extents(shape, size)
    if shape in ("sphere", "capsule", "ellipsoid"):
        return max(extents)
    if shape == "cylinder":
        return math.hypot(extents[0], extents[2])
    return math.hypot(*extents)


def volume(shape: str, size: Vector) -> float:
    a, b, c = size
    if shape == "sphere":
        return 4 / 3 * math.pi * a**3
    if shape == "box":
        return 8 * a * b * c
    if shape == "cylinder":
        return math.pi * a**2 * 2 * b
    if shape == "capsule":
        return math.pi * a**2 * (2 * b + 4 / 3 * a)
    return 4 / 3 * math.pi * a * b * c


def unit_inertia(shape: str, size: Vector) -> Vector:
    """Principal moments of inertia of a solid body divided by its mass, in square metres."""
    a, b, c = size
    if shape == "sphere":
        return (0.4 * a * a, 0.4 * a * a, 0.4 * a * a)
    if shape == "cylinder":
        side = (3 * a * a + 4 * b * b) / 12
        return (side, side, a * a / 2)
    if shape == "capsule":
        caps = 4 / 3 * a / (2 * b + 4 / 3 * a)
        tube = 1 - caps
        side = tube * (3 * a * a + 4 * b * b) / 12 + caps * (0.4 * a * a + b * b + 0.75 * a * b)
        return (side, side, tube * a * a / 2 + caps * 0.4 * a * a)
    share = 1 / 3 if shape == "box" else 1 / 5
    return (share * (b * b + c * c), share * (a * a + c * c), share * (a * a + b * b))


def rotate_back(rotation: Quaternion, vector: Vector) -> np.ndarray:
    """``vector`` of the world in the axes of a body that is turned by ``rotation`` (w, x, y, z)."""
    w, u = rotation[0], -np.asarray(rotation[1:])
    v = np.asarray(vector)
    return v + 2 * np.cross(u, np.cross(u, v) + w * v)


def world_half_extents(body: Body) -> np.ndarray:
    """Half sides of the smallest box along the world's axes that holds the body at its start."""
    own = [rotate_back(body.rotation, axis) for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    axes, extents = np.stack(own), np.asarray(half_extents(body.shape, body.size))
    if body.shape == "box":
        reach = np.abs(axes) @ extents
    elif body.shape in ("sphere", "ellipsoid"):
        reach = np.linalg.norm(axes * extents, axis=1)
    else:
        radius, half, _ = body.size
        along = np.abs(axes[:, 2])
        round_part = 1.0 if body.shape == "capsule" else np.sqrt(np.maximum(0, 1 - along**2))
        reach = half * along + radius * round_part
    return np.asarray(reach)


def contact_softness(bounce: float, frequency: float = 80.0) -> tuple[float, float]:
    """MuJoCo's ``solref`` (time constant, damping ratio) that returns ``bounce`` of the speed.

    A contact is a damped spring of ``frequency`` rad/s; over half a period it keeps
    exp(-pi·d / sqrt(1 - d²)) of the speed, solved here for the damping ratio d.
    """
    if bounce <= 0:
        return 1 / frequency, 1.0
    log = math.log(bounce)
    damping = -log / math.hypot(math.pi, log)
    return 1 / (damping * frequency), damping
