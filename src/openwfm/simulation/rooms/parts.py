"""Things built from boxes, cylinders and spheres, and the geometry of many of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from openwfm.simulation.bodies import Vector, half_extents

WHITE: Vector = (1.0, 1.0, 1.0)
UNTURNED = np.eye(3)
# A panel's picture is on its own x y plane; seen from +y it stands upright and is not mirrored.
FACING_Y = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A convex piece in metres: ``size`` as MuJoCo has it (half extents of a box, radius and half
    length of a cylinder, radius of a sphere, half axes of an ellipsoid), ``rotation`` ``3 3`` its
    axes as columns. ``colour`` multiplies ``texture``, which names a slot of the model."""

    shape: str
    size: Vector
    position: Vector
    texture: str
    colour: Vector = WHITE
    rotation: np.ndarray = field(default_factory=lambda: UNTURNED)


@dataclass(frozen=True, kw_only=True, eq=False)
class Thing:
    """``name`` is a noun with its adjectives, as a caption says it. Furniture stands on z = 0
    around its own origin and faces +y until it is placed. ``surface`` marks floors, walls and
    ceilings, which throw no shadow and are not worth a word."""

    name: str
    parts: tuple[Part, ...]
    surface: bool = False


def box(at: Vector, size: Vector, texture: str, colour: Vector = WHITE) -> Part:
    """A box of half extents ``size`` around ``at``."""
    return Part(shape="box", size=size, position=at, texture=texture, colour=colour)


def column(at: Vector, radius: float, half: float, texture: str, colour: Vector = WHITE) -> Part:
    """An upright cylinder around ``at``."""
    size = (radius, half, 0.0)
    return Part(shape="cylinder", size=size, position=at, texture=texture, colour=colour)


def blob(at: Vector, axes: Vector, texture: str, colour: Vector = WHITE) -> Part:
    """An ellipsoid around ``at``."""
    return Part(shape="ellipsoid", size=axes, position=at, texture=texture, colour=colour)


def panel(at: Vector, width: float, height: float, texture: str, colour: Vector = WHITE) -> Part:
    """An upright picture 4 cm thick that faces +y; ``width`` and ``height`` are its full sides."""
    size = (width / 2, height / 2, 0.02)
    return Part(
        shape="box", size=size, position=at, texture=texture, colour=colour, rotation=FACING_Y
    )


def legs(
    width: float, depth: float, height: float, texture: str, colour: Vector
) -> tuple[Part, ...]:
    """Four square legs under the corners of ``width`` by ``depth``."""
    return tuple(
        box((x, y, height / 2), (0.03, 0.03, height / 2), texture, colour)
        for x in (-width / 2 + 0.04, width / 2 - 0.04)
        for y in (-depth / 2 + 0.04, depth / 2 - 0.04)
    )


def place(thing: Thing, x: float, y: float, yaw: float, z: float = 0.0) -> Thing:
    """Turned by ``yaw`` radians anticlockwise seen from above, then moved."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    parts = []
    for part in thing.parts:
        moved = turn @ np.asarray(part.position) + (x, y, z)
        position = (float(moved[0]), float(moved[1]), float(moved[2]))
        parts.append(replace(part, position=position, rotation=turn @ part.rotation))
    return replace(thing, parts=tuple(parts))


@dataclass(frozen=True, kw_only=True, eq=False)
class Solids:
    """Oriented boxes around ``n`` parts: ``centres`` ``n 3``, ``rotations`` ``n 3 3`` (axes as
    columns), ``halves`` ``n 3``, and ``owners`` ``n``, the index of the thing of each."""

    centres: np.ndarray
    rotations: np.ndarray
    halves: np.ndarray
    owners: np.ndarray

    @classmethod
    def of(cls, things: Sequence[Thing]) -> Solids:
        pairs = [(owner, part) for owner, thing in enumerate(things) for part in thing.parts]
        return cls(
            centres=np.array([part.position for _, part in pairs]),
            rotations=np.stack([part.rotation for _, part in pairs]),
            halves=np.array([half_extents(part.shape, part.size) for _, part in pairs]),
            owners=np.array([owner for owner, _ in pairs]),
        )

    def world_halves(self) -> np.ndarray:
        """Half extents ``n 3`` of the boxes along the world's axes that hold the parts."""
        return np.einsum("nij,nj->ni", np.abs(self.rotations), self.halves)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corners ``things 3`` of the things, along the world's axes."""
        half, count = self.world_halves(), int(self.owners.max()) + 1
        low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
        np.minimum.at(low, self.owners, self.centres - half)
        np.maximum.at(high, self.owners, self.centres + half)
        return low, high

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Metres from each of ``m 3`` points to the nearest box; 0 inside one."""
        offsets = points[:, None] - self.centres
        local = np.abs(np.einsum("mni,nij->mnj", offsets, self.rotations)) - self.halves
        nearest: np.ndarray = np.linalg.norm(np.maximum(local, 0), axis=-1).min(1)
        return nearest

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where ``m`` rays first meet a box: distance in lengths of ``directions`` (inf for none)
        and the owner of the box (-1 for none)."""
        start = np.einsum("mni,nij->mnj", origins[:, None] - self.centres, self.rotations)
        along = np.einsum("mi,nij->mnj", directions, self.rotations)
        along = np.where(np.abs(along) < 1e-12, 1e-12, along)
        near, far = (-self.halves - start) / along, (self.halves - start) / along
        enter = np.minimum(near, far).max(-1)
        leave = np.maximum(near, far).min(-1)
        reach = np.where((enter <= leave) & (enter > 0), enter, np.inf)
        first = reach.argmin(1)
        distance = reach[np.arange(len(reach)), first]
        return distance, np.where(np.isfinite(distance), self.owners[first], -1)
