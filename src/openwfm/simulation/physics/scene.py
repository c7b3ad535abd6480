"""A scene before it moves: loose pieces, fixtures, and the two things that turn on a joint.

Metres, kilograms, radians; z is up and the floor is z = 0. Scenes stand about the origin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from openwfm.simulation.bodies import (
    NOUNS,
    UPRIGHT,
    Body,
    Quaternion,
    Vector,
    rotate_back,
    volume,
)

EARTH = 9.81
MAX_PIECES, MAX_FIXTURES = 9, 32


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A body that moves freely, and its ``pattern`` (`openwfm.simulation.physics.paint`).

    ``support`` is the normal of what it stands on (zeros in the air), ``along`` the direction in
    which it can be moved a tenth of its length without leaving it or hitting another.
    """

    body: Body
    pattern: str = "plain"
    support: Vector = (0.0, 0.0, 1.0)
    along: Vector = (1.0, 0.0, 0.0)
    noun: str = ""

    @property
    def name(self) -> str:
        return f"{self.body.colour} {self.noun or NOUNS[self.body.shape]}"

    @property
    def mass(self) -> float:
        return self.body.density * volume(self.body.shape, self.body.size)


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """Something that never moves. One that is not ``solid`` is only seen."""

    name: str
    shape: str
    size: Vector
    position: Vector
    rotation: Quaternion = UPRIGHT
    solid: bool = True


@dataclass(frozen=True, kw_only=True)
class Plank:
    """The board of a seesaw, level, on a hinge along y through its centre."""

    half: Vector
    height: float
    mass: float

    name = "seesaw board"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A gyroscope: a disc at ``arm`` from a fixed point, on an axle without mass.

    The axle points to ``azimuth``, ``tilt`` above the horizontal, and the disc turns about it at
    ``spin`` rad/s. It is set going with the precession that keeps the axle at this height.
    """

    radius: float
    half_width: float
    arm: float
    mass: float
    spin: float
    height: float
    azimuth: float
    tilt: float
    colour: str
    pattern: str

    @property
    def name(self) -> str:
        return f"{self.colour} wheel"

    @property
    def inertia(self) -> tuple[float, float]:
        """About the axle, and across it through the centre of the disc."""
        own = 0.5 * self.mass * self.radius**2
        return own, own / 2 + self.mass * self.half_width**2 / 3

    def precession(self, gravity: float) -> float:
        """Steady rate in rad/s about the vertical: the smaller root of the balance of torques,
        I·spin·Ω − (across + m·arm² )·Ω²·sin(tilt) = m·g·arm; spin is that about the axle."""
        own, across = self.inertia
        bend = (across + self.mass * self.arm**2) * math.sin(self.tilt)
        torque, turn = self.mass * gravity * self.arm, own * self.spin
        root = turn * turn - 4 * bend * torque
        if root <= 0:
            return torque / turn
        return 2 * torque / (turn + math.copysign(math.sqrt(root), turn))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """``low`` and ``high`` are corners of the box that the cameras must show; ``elevation`` is how
    high they stand, in degrees. ``facts`` are the scenario's own parameters."""

    scenario: str
    low: Vector
    high: Vector
    elevation: tuple[float, float]
    pieces: tuple[Piece, ...] = ()
    fixtures: tuple[Fixture, ...] = ()
    plank: Plank | None = None
    wheel: Wheel | None = None
    gravity: float = EARTH
    facts: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What moves, in the order of the recording: pieces, then board or wheel."""
        joints = (self.plank, self.wheel)
        return (*(p.name for p in self.pieces), *(j.name for j in joints if j is not None))


def turn(axis: Vector, angle: float) -> Quaternion:
    """The rotation by ``angle`` radians about the unit vector ``axis``."""
    half = math.sin(angle / 2)
    return (math.cos(angle / 2), axis[0] * half, axis[1] * half, axis[2] * half)


def compose(second: Quaternion, first: Quaternion) -> Quaternion:
    """The rotation that does ``first`` and then ``second``."""
    a, u = second[0], np.asarray(second[1:])
    b, v = first[0], np.asarray(first[1:])
    x, y, z = (a * v + b * u + np.cross(u, v)).tolist()
    return (float(a * b - u @ v), x, y, z)


def rotate(rotation: Quaternion, vector: Vector) -> np.ndarray:
    """``vector`` of a turned body in the axes of the world."""
    w, x, y, z = rotation
    return rotate_back((w, -x, -y, -z), vector)


def vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return (x, y, z)
