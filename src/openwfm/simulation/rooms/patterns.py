"""Walls, floors and grains: pictures ``h w 3`` in [0, 1], none of which repeats itself.

Patterns are drawn in metres, so that a brick has the size of a brick on any wall.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openwfm.simulation.bodies import Vector
from openwfm.simulation.rooms.noise import cells, metres, noise

Shape = tuple[int, int]
Pattern = Callable[[np.random.Generator, float, float, Shape, Vector], np.ndarray]


def tint(colour: Vector, shade: np.ndarray) -> np.ndarray:
    """``colour`` times ``shade`` ``h w``, inside [0, 1]."""
    return np.clip(np.asarray(colour, np.float32) * shade[..., None], 0, 1)


def _knots(width: float, height: float, per_metre: float) -> tuple[int, int]:
    return max(2, round(height * per_metre)), max(2, round(width * per_metre))


def plaster(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    return tint(colour, 1 + 0.075 * noise(rng, *shape, _knots(width, height, 2), 6))


def wallpaper(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    """Diamonds or discs on a grid, each of another brightness, over faint stripes."""
    x, y = metres(width, height, shape)
    pitch = rng.uniform(0.3, 0.5)
    row, column, _ = cells(x, y, (pitch, pitch), 0.5)
    right = x / pitch + 0.5 * (row % 2) - column - 0.5
    up = y / pitch - row - 0.5
    shapes = (np.abs(right) + np.abs(up) < 0.32, np.hypot(right, up) < 0.27)
    inside = shapes[rng.integers(2)]
    tones = rng.uniform(-0.45, 0.35, (int(row.max()) + 1, int(column.max()) + 1))
    shade = 1 + np.where(inside, tones[row, column], 0.05 * np.sign(np.sin(4 * np.pi * x / pitch)))
    return tint(colour, shade + 0.05 * noise(rng, *shape, _knots(width, height, 6), 4))


def _blocks(
    rng: np.random.Generator,
    area: tuple[float, float, Shape],
    block: tuple[float, float],
    stagger: float,
    tone: float,
    joint: float,
) -> np.ndarray:
    """Shade of blocks with dark joints: each has a tone of its own, and a grain."""
    width, height, shape = area
    x, y = metres(width, height, shape)
    row, column, edge = cells(x, y, block, stagger)
    tones = 1 + tone * rng.uniform(-1, 1, (int(row.max()) + 1, int(column.max()) + 1))
    grain = 0.07 * noise(rng, *shape, _knots(width, height, 5), 4)
    joints = np.where(edge < joint, np.float32(0.55), np.float32(1))
    shade: np.ndarray = (tones.astype(np.float32)[row, column] + grain) * joints
    return shade


def brick(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    return tint(colour, _blocks(rng, (width, height, shape), (0.42, 0.17), 0.5, 0.28, 0.014))


def stone(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    return tint(colour, _blocks(rng, (width, height, shape), (0.8, 0.42), 0.5, 0.25, 0.022))


def tiles(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    """A worn chessboard."""
    side = rng.uniform(0.4, 0.6)
    x, y = metres(width, height, shape)
    row, column, _ = cells(x, y, (side, side), 0.0)
    board = np.where((row + column) % 2, 1.08, 0.74)
    return tint(
        colour, board * _blocks(rng, (width, height, shape), (side, side), 0.0, 0.24, 0.012)
    )


def paving(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    side = rng.uniform(0.6, 0.9)
    shade = _blocks(rng, (width, height, shape), (side, side), 0.5, 0.2, 0.025)
    return tint(colour, shade + 0.08 * noise(rng, *shape, _knots(width, height, 0.7), 4))


def planks(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    """Boards along x, each with its own tone, and a grain that runs along them."""
    shade = _blocks(rng, (width, height, shape), (1.3, 0.17), 0.37, 0.2, 0.01)
    down, across = _knots(width, height, 2)
    return tint(colour, shade + 0.1 * noise(rng, *shape, (8 * down, across), 3))


def panelling(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    """Upright boards."""
    turned = planks(rng, height, width, shape[::-1], colour)
    return np.ascontiguousarray(turned.transpose(1, 0, 2))


def carpet(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    return tint(colour, 1 + 0.2 * noise(rng, *shape, _knots(width, height, 4), 5))


def grass(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    blades = noise(rng, *shape, _knots(width, height, 3), 5)
    picture = tint(colour, 1 + 0.2 * blades)
    picture[..., 0] *= 1 + 0.12 * np.tanh(noise(rng, *shape, (6, 6), 2))
    return np.clip(picture, 0, 1)


def facade(
    rng: np.random.Generator, width: float, height: float, shape: Shape, colour: Vector
) -> np.ndarray:
    """A building's front: blocks or plaster, rows of framed windows, some of them lit."""
    pattern = (brick, plaster, stone)[rng.integers(3)]
    picture = pattern(rng, width, height, shape, colour)
    x, y = metres(width, height, shape)
    count = max(2, round(width / rng.uniform(1.8, 2.6)))
    pitch = (width / count, 2.9)
    row, column, _ = cells(x, y, pitch, 0.0)
    right = (x / pitch[0] - column - 0.5) * pitch[0]
    up = y - row * pitch[1] - 1.65
    frame = (np.abs(right) < 0.6) & (np.abs(up) < 0.78)
    glass = (np.abs(right) < 0.5) & (np.abs(up) < 0.68) & (np.abs(right) > 0.04)
    glow = rng.uniform(0.15, 0.75, (int(row.max()) + 1, int(column.max()) + 1, 1))
    tone = np.asarray(((0.75, 0.88, 1.0), (1.0, 0.85, 0.55)), np.float32)
    lit = tone[rng.integers(0, 2, glow.shape[:2])] * glow
    picture[frame] = (0.93, 0.92, 0.88)
    shine = np.clip(1 + 0.25 * up / 0.68 + 0.12 * noise(rng, *shape, (9, 16), 3), 0.3, 1.6)
    picture[glass] = np.clip(lit[row, column] * shine[..., None], 0, 1)[glass]
    return picture


PATTERNS: dict[str, Pattern] = {
    "plaster": plaster,
    "wallpaper": wallpaper,
    "brick": brick,
    "stone": stone,
    "tiles": tiles,
    "paving": paving,
    "planks": planks,
    "panelling": panelling,
    "carpet": carpet,
    "grass": grass,
    "facade": facade,
}


def wood_grain(rng: np.random.Generator, side: int) -> np.ndarray:
    """Light boards; a part's colour stains them."""
    waves = noise(rng, side, side, (2, 12), 3)
    rings = np.sin(5 * noise(rng, side, side, (2, 5), 2))
    return tint((0.86, 0.86, 0.86), 1 + 0.1 * waves + 0.1 * rings)


def cloth(rng: np.random.Generator, side: int) -> np.ndarray:
    return tint((0.88, 0.88, 0.88), 1 + 0.09 * noise(rng, side, side, (9, 9), 4))


def leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """Light leaves over dark gaps."""
    spots = np.tanh(1.6 * noise(rng, side, side, (11, 11), 3))
    return tint((0.72, 0.72, 0.72), 1 + 0.45 * spots)


def bark(rng: np.random.Generator, side: int) -> np.ndarray:
    return tint((0.75, 0.75, 0.75), 1 + 0.28 * noise(rng, side, side, (3, 14), 3))


def rock(rng: np.random.Generator, side: int) -> np.ndarray:
    return tint((0.84, 0.84, 0.84), 1 + 0.17 * noise(rng, side, side, (3, 3), 5))


def smooth(rng: np.random.Generator, side: int) -> np.ndarray:
    """Paint and metal: nearly plain."""
    return tint((0.92, 0.92, 0.92), 1 + 0.04 * noise(rng, side, side, (3, 3), 4))
