"""What hangs, stands and lies in a room with a picture on it: square images in [0, 1]."""

from __future__ import annotations

import numpy as np

from openwfm.simulation.bodies import Vector
from openwfm.simulation.rooms.noise import noise

PAINTS: tuple[Vector, ...] = (
    (0.83, 0.20, 0.16),
    (0.93, 0.66, 0.16),
    (0.16, 0.36, 0.62),
    (0.14, 0.50, 0.40),
    (0.95, 0.91, 0.82),
    (0.14, 0.14, 0.18),
    (0.55, 0.26, 0.46),
    (0.35, 0.66, 0.74),
)


def _plane(side: int) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y up, both in [-1, 1]."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return np.broadcast_to(line, (side, side)), np.broadcast_to(-line[:, None], (side, side))


def _paint(rng: np.random.Generator) -> Vector:
    return PAINTS[rng.integers(len(PAINTS))]


def _worn(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    grain = noise(rng, height, width, (12, 12), 4)
    return np.clip(image * (1 + strength * grain[..., None]), 0, 1)


def painting(rng: np.random.Generator, side: int) -> np.ndarray:
    """A landscape or an abstract picture in a frame."""
    picture = landscape(rng, side) if rng.random() < 0.5 else _abstract(rng, side)
    x, y = _plane(side)
    picture = _worn(picture, rng, 0.08)
    edge = np.maximum(np.abs(x), np.abs(y))
    picture[edge > 0.84] = (0.94, 0.92, 0.88)
    picture[edge > 0.9] = ((0.12, 0.10, 0.10), (0.42, 0.26, 0.12), (0.75, 0.6, 0.3))[
        rng.integers(3)
    ]
    return picture


def landscape(rng: np.random.Generator, side: int) -> np.ndarray:
    """A sky with a sun or clouds, and three ranges of hills."""
    x, y = _plane(side)
    low, high = np.asarray(_paint(rng)), np.asarray((0.45, 0.68, 0.93))
    blend = np.clip(0.5 + 0.5 * y, 0, 1)[..., None]
    picture = np.asarray(blend * high + (1 - blend) * (0.5 * low + 0.5), np.float32)
    cloud = np.clip(noise(rng, side, side, (4, 3), 4), 0, 1.2)[..., None] * 0.5
    picture += cloud * (1 - picture)
    sun = rng.uniform(-0.6, 0.6, 2) * (1, 0.4) + (0, 0.4)
    picture[np.hypot(x - sun[0], y - sun[1]) < 0.16] = (1.0, 0.93, 0.7)
    for depth, level in enumerate((0.15, -0.15, -0.5)):
        ridge = level + (0.16 + 0.03 * depth) * noise(rng, 2, side, (2, 4), 4)[0]
        green = np.asarray((0.36, 0.46, 0.52)) * (1 - depth / 3) + depth / 3 * np.asarray(
            (0.16, 0.36, 0.12)
        )
        ground = y < ridge
        picture[ground] = green * rng.uniform(0.8, 1.2)
    shade = np.where(y < 0.1, 1 + 0.16 * noise(rng, side, side, (10, 10), 3), 1.0)
    return np.clip(picture * shade[..., None], 0, 1)


def _abstract(rng: np.random.Generator, side: int) -> np.ndarray:
    x, y = _plane(side)
    picture = np.broadcast_to(np.asarray(_paint(rng), np.float32), (side, side, 3)).copy()
    for _ in range(int(rng.integers(9, 16))):
        centre, size, turn = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.1, 0.5, 2), rng.uniform(0, 3)
        right = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
        up = (y - centre[1]) * np.cos(turn) - (x - centre[0]) * np.sin(turn)
        if rng.random() < 0.5:
            picture[(np.abs(right) < size[0]) & (np.abs(up) < size[1])] = _paint(rng)
        else:
            picture[np.hypot(right, up) < size[0]] = _paint(rng)
    return picture


def rug(rng: np.random.Generator, side: int) -> np.ndarray:
    """Bands around a field whose ornament is the same in its four corners; the pile is not."""
    x, y = _plane(side)
    colours = rng.permutation(len(PAINTS))[:4]
    ornament = noise(rng, side, side, (5, 5), 2)
    ornament = ornament + ornament[:, ::-1]
    ornament = ornament + ornament[::-1]
    level = np.digitize(ornament, (-1.4, 0.3, 1.6))
    picture = np.asarray(PAINTS, np.float32)[colours[level]]
    edge = np.maximum(np.abs(x), np.abs(y))
    for limit, colour in ((0.72, colours[1]), (0.78, colours[2]), (0.93, colours[0])):
        picture[edge > limit] = PAINTS[colour]
    return _worn(picture, rng, 0.16)


def books(rng: np.random.Generator, side: int) -> np.ndarray:
    """A row of spines of different widths, heights and colours with titles on them."""
    picture = np.full((side, side, 3), 0.07, np.float32)
    left = 0
    while left < side - 4:
        right = min(side, left + int(rng.integers(side // 16, side // 7)))
        top = int(rng.uniform(0, 0.28) * side)
        colour = np.asarray(_paint(rng)) * rng.uniform(0.7, 1.05)
        round_back = np.sin(np.linspace(0.35, np.pi - 0.35, right - left))[None, :, None]
        picture[top:, left:right] = colour * (0.45 + 0.6 * round_back)
        at, ink = int(rng.uniform(top + 0.1 * side, 0.7 * side)), rng.uniform(0.6, 1.0)
        picture[at : at + side // 6, left + 2 : right - 2] = ink * np.asarray((1, 0.93, 0.72))
        picture[side - side // 10 : side - side // 14, left:right] = ink
        left = right
    return _worn(np.clip(picture, 0, 1), rng, 0.1)


def view(rng: np.random.Generator, side: int) -> np.ndarray:
    """A bright window with a cross of bars and hills behind it."""
    x, y = _plane(side)
    picture = np.clip(landscape(rng, side) * 1.1 + 0.08, 0, 1)
    bars = (np.abs(x) < 0.04) | (np.abs(y - 0.25) < 0.035)
    picture[bars | (np.maximum(np.abs(x), np.abs(y)) > 0.88)] = (0.96, 0.96, 0.94)
    return picture


def door(rng: np.random.Generator, side: int) -> np.ndarray:
    """White wood with four sunk panels and a handle; a part's colour paints it."""
    x, y = _plane(side)
    grain = 1 + 0.05 * noise(rng, side, side, (4, 20), 3)
    for across in (-0.45, 0.45):
        for up, half in ((0.42, 0.42), (-0.55, 0.3)):
            reach = np.maximum(np.abs(x - across) - 0.31, np.abs(y - up) - half)
            grain = np.where(reach < 0, 0.8, grain) + np.where(np.abs(reach) < 0.03, -0.25, 0)
    picture = np.clip(np.repeat(0.9 * grain[..., None], 3, axis=2), 0, 1)
    picture[np.hypot((x - 0.86) * 0.45, y + 0.1) < 0.035] = (1.0, 0.85, 0.35)
    return picture


def sky(rng: np.random.Generator, side: int) -> np.ndarray:
    """Six faces of a cube ``6·side side 3``: blue that pales towards the horizon, and clouds.

    MuJoCo stacks right, left, up, down, front, back; its cube's up is the world's y, so that a
    face is read through the direction of each of its pixels.
    """
    line = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    u, v = np.broadcast_to(line, (side, side)), np.broadcast_to(-line[:, None], (side, side))
    one = np.ones_like(u)
    faces = ((one, v, -u), (-one, v, u), (u, one, -v), (u, -one, v), (u, v, one), (-u, v, -one))
    ways = np.stack([np.stack(face, -1) for face in faces]).reshape(6 * side, side, 3)
    ways = ways / np.linalg.norm(ways, axis=-1, keepdims=True)
    waves = rng.normal(0, (2.2, 5.0, 2.2), (24, 3)) * np.repeat((1, 2, 4), 8)[:, None]
    weights = np.repeat((1.0, 0.6, 0.35), 8).astype(np.float32)
    cloud = (
        np.sin(ways @ waves.T.astype(np.float32) + rng.uniform(0, 6.28, 24).astype(np.float32))
        @ weights
    )
    cover = np.clip(cloud / 2.6 - rng.uniform(-0.2, 0.5), 0, 1)[..., None] * 0.85
    height = np.clip(ways[..., 1:2], 0, 1) ** 0.6
    blue = (1 - height) * np.asarray((0.80, 0.88, 0.95)) + height * np.asarray((0.25, 0.48, 0.82))
    picture = blue * (1 - cover) + cover * np.asarray((0.97, 0.97, 0.98))
    below = np.clip(-8 * ways[..., 1:2], 0, 1)
    return np.clip(picture * (1 - below) + below * np.asarray((0.62, 0.66, 0.66)), 0, 1)
