"""Scenery as bags of quads: boxes, prisms, ribbons, trees, each with its texture coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]
UNIT_UV = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
# Corners of a box's faces, counter-clockwise from outside, low edge first: +x -x +y -y +z -z.
FACES = np.array(
    [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]],
        [[0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]],
        [[1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]],
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],
        [[0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]],
    ]
)


@dataclass(frozen=True, eq=False)
class Quads:
    """``corners`` ``n 4 3`` metres, counter-clockwise seen from outside; ``uv`` ``n 4 2``."""

    corners: np.ndarray
    uv: np.ndarray

    def __len__(self) -> int:
        return len(self.corners)

    def column(self, u: float) -> Quads:
        """All of one texture column: a plain colour of a palette."""
        return Quads(self.corners, np.broadcast_to([u, 0.5], self.uv.shape))

    def moved(self, x: float, y: float, yaw: float = 0.0, z: float = 0.0) -> Quads:
        """Turned about z, then moved."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        return Quads(self.corners @ turn + (x, y, z), self.uv)

    def normals(self) -> np.ndarray:
        """``n 3``, of unit length (z where a quad has no area)."""
        normal = np.cross(
            self.corners[:, 2] - self.corners[:, 0], self.corners[:, 3] - self.corners[:, 1]
        )
        size = np.linalg.norm(normal, axis=1, keepdims=True)
        return np.where(size > 1e-9, normal / np.maximum(size, 1e-9), (0.0, 0.0, 1.0))


EMPTY = Quads(np.zeros((0, 4, 3)), np.zeros((0, 4, 2)))


def merged(*parts: Quads) -> Quads:
    if not parts:
        return EMPTY
    return Quads(
        np.concatenate([part.corners for part in parts]), np.concatenate([p.uv for p in parts])
    )


def box(low: Point, high: Point, *, tile: float = 0.0, bottom: bool = False) -> Quads:
    """From corner ``low`` to corner ``high``. A texture of ``tile`` metres repeats on the sides;
    without it each face shows the texture once."""
    size = np.subtract(high, low)
    corners = np.asarray(low) + FACES[: 6 if bottom else 5] * size
    uv = np.broadcast_to(UNIT_UV, (len(corners), 4, 2)).copy()
    if tile:
        widths = np.array([size[1], size[1], size[0], size[0]])
        uv[:4, :, 0] *= np.maximum(1, np.round(widths / tile))[:, None]
        uv[:4, :, 1] *= max(1, round(size[2] / tile))
    return Quads(corners, uv)


def prism(profile: np.ndarray, half: float) -> Quads:
    """A convex outline ``n 2`` of (x, z), counter-clockwise seen from -y, from y = -half to
    y = half."""
    after = np.roll(profile, -1, axis=0)
    left, right = (np.insert(profile, 1, y, axis=1) for y in (half, -half))
    left_after, right_after = (np.insert(after, 1, y, axis=1) for y in (half, -half))
    around = np.stack([right, left, left_after, right_after], axis=1)[:, ::-1]
    caps = []
    for index in range(1, len(profile) - 1, 2):
        cap = [0, index, index + 1, min(index + 2, len(profile) - 1)]
        caps += [right[cap], left[cap][::-1]]
    corners = np.concatenate([around, np.stack(caps)])
    return Quads(corners, np.broadcast_to(UNIT_UV, (len(corners), 4, 2)))


def flat(points: np.ndarray, height: float, tile: float) -> Quads:
    """Convex quads ``n 4 2`` on the ground, seen from above, with a texture of ``tile`` metres."""
    x, y = points[..., 0], points[..., 1]
    area = (x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)
    points = np.where(area[:, None, None] < 0, points[:, ::-1], points)
    corners = np.concatenate([points, np.full((*points.shape[:2], 1), height)], axis=-1)
    return Quads(corners, points / tile)


def ribbon(left: np.ndarray, right: np.ndarray, height: float, tile: float) -> Quads:
    """The strip between two lines ``n 2`` on the ground, seen in the direction they run."""
    points = np.stack([right[:-1], right[1:], left[1:], left[:-1]], axis=1)
    return flat(points, height, tile)


def fan(centre: np.ndarray, rim: np.ndarray, height: float, tile: float) -> Quads:
    """Triangles from ``centre`` to the line ``rim`` ``n 2``, which runs counter-clockwise."""
    hub = np.broadcast_to(centre, (len(rim) - 1, 2))
    return flat(np.stack([hub, hub, rim[:-1], rim[1:]], axis=1), height, tile)


def lathe(profile: np.ndarray, sides: int) -> Quads:
    """A profile ``n 2`` of (radius, z), from below upwards, turned about z."""
    angles = np.linspace(0, 2 * np.pi, sides + 1)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    radius, z = profile[:, 0, None, None], profile[:, 1, None]
    rings = np.concatenate(
        [radius * around, np.broadcast_to(z[..., None], (len(profile), sides + 1, 1))], axis=-1
    )
    corners = np.stack(
        [rings[:-1, :-1], rings[:-1, 1:], rings[1:, 1:], rings[1:, :-1]], axis=2
    ).reshape(-1, 4, 3)
    return Quads(corners, np.broadcast_to(UNIT_UV, (len(corners), 4, 2)))
