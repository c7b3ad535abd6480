"""Pieces drawn at random: shape, size, mass, friction, colour and pattern."""

from __future__ import annotations

import math

import numpy as np

from openwfm.simulation.bodies import (
    COLOURS,
    SHAPES,
    UPRIGHT,
    Body,
    Quaternion,
    Vector,
    bounding_radius,
    volume,
)
from openwfm.simulation.physics.paint import PATTERNS
from openwfm.simulation.physics.scene import Piece, turn, vector

ROUND, FLAT = ("sphere", "cylinder", "capsule"), ("box", "cylinder")
# A cylinder or a capsule that lies along y, ready to roll along x.
LYING = turn((1.0, 0.0, 0.0), math.pi / 2)


class Draw:
    """Draws of one scene: no two of its pieces have the same colour until all are used."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._colours = [str(name) for name in rng.permutation(list(COLOURS))]
        self._next = 0

    def colour(self) -> str:
        self._next += 1
        return self._colours[(self._next - 1) % len(self._colours)]

    def pattern(self) -> str:
        return str(self.rng.choice(PATTERNS))

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def sign(self) -> float:
        return float(self.rng.choice([-1.0, 1.0]))

    def count(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def shape(self, among: tuple[str, ...] = SHAPES) -> str:
        return str(self.rng.choice(among))

    def rotation(self) -> Quaternion:
        w, x, y, z = self.rng.normal(size=4)
        norm = math.sqrt(w * w + x * x + y * y + z * z)
        return (w / norm, x / norm, y / norm, z / norm)

    def direction(self) -> Vector:
        unit = self.rng.normal(size=3)
        return vector(unit / np.linalg.norm(unit))

    def size(self, shape: str, low: float = 0.07, high: float = 0.12) -> Vector:
        """Half extents as MuJoCo has them, about ``low`` to ``high`` metres."""
        a, b, c = self.rng.uniform(low, high, 3).tolist()
        if shape == "sphere":
            return (a, 0.0, 0.0)
        if shape == "cylinder":
            return (a, 0.8 * b, 0.0)
        if shape == "capsule":
            return (0.75 * a, 0.7 * b, 0.0)
        if shape == "ellipsoid":
            return (0.75 * a, 0.75 * b, 1.1 * c)
        return (a, b, 0.9 * c)

    def piece(
        self,
        shape: str,
        size: Vector,
        position: Vector,
        *,
        rotation: Quaternion = UPRIGHT,
        velocity: Vector = (0.0, 0.0, 0.0),
        spin: Vector = (0.0, 0.0, 0.0),
        friction: float | None = None,
        bounce: float = 0.0,
        mass: float | None = None,
        support: Vector = (0.0, 0.0, 1.0),
        along: Vector = (1.0, 0.0, 0.0),
        noun: str = "",
    ) -> Piece:
        """What is not given is drawn: colour, pattern, friction, and a density of wood to stone."""
        density = math.exp(self.between(math.log(250), math.log(1600)))
        drawn_friction = self.between(0.35, 0.8)
        body = Body(
            shape=shape,
            size=size,
            colour=self.colour(),
            position=position,
            rotation=rotation,
            velocity=velocity,
            spin=spin,
            friction=drawn_friction if friction is None else friction,
            bounce=bounce,
            density=density if mass is None else mass / volume(shape, size),
        )
        pattern = self.pattern()
        return Piece(body=body, pattern=pattern, support=support, along=along, noun=noun)


def apart(pieces: list[Piece], gap: float = 0.01) -> bool:
    """No two bounding spheres are nearer than ``gap`` metres."""
    centres = np.array([piece.body.position for piece in pieces]).reshape(-1, 3)
    radii = np.array([bounding_radius(piece.body.shape, piece.body.size) for piece in pieces])
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    gaps = distances - radii[:, None] - radii[None]
    return bool(gaps[np.triu_indices(len(pieces), 1)].min(initial=math.inf) > gap)
