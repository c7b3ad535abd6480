"""Smooth noise and metric grids: what every texture is made of."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=256)
def _knots(size: int, knots: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of evenly spaced knots lies to the left of each of ``size`` places, and the smooth
    weight of the next one."""
    at = np.linspace(0, knots - 1, size)
    left = np.minimum(at.astype(int), knots - 2)
    part = at - left
    return left, (part * part * (3 - 2 * part)).astype(np.float32)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``h w`` (two or more each) to ``height width``, smoothly; the corners stay where they are.

    Two taps each way: a matrix product would keep every core busy, and its last bit may depend on
    how many there are.
    """
    top, down = _knots(height, image.shape[0])
    left, right = _knots(width, image.shape[1])
    wide = image[:, left] + right * (image[:, left + 1] - image[:, left])
    steps = np.diff(wide, axis=0)
    tall: np.ndarray = wide[top] + down[:, None] * steps[top]
    return tall


def noise(
    rng: np.random.Generator, height: int, width: int, knots: tuple[int, int], octaves: int
) -> np.ndarray:
    """float32 ``height width`` of mean 0 and standard deviation 1: each octave has twice the
    ``knots`` (down, across) of the one before and 0.7 of its strength."""
    total = np.zeros((height, width), np.float32)
    strength = 1.0
    down, across = knots
    for _ in range(octaves):
        down, across = min(down, height), min(across, width)
        grid = rng.standard_normal((max(down, 2), max(across, 2)), np.float32)
        total += strength * resize(grid, height, width)
        down, across, strength = 2 * down, 2 * across, 0.7 * strength
    return (total - total.mean()) / max(float(total.std()), 1e-6)


def metres(width: float, height: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y up at the pixel centres of a picture that is ``width`` by ``height``
    metres; its first row is the top."""
    rows, columns = shape
    x = (np.arange(columns, dtype=np.float32) + 0.5) * (width / columns)
    y = height - (np.arange(rows, dtype=np.float32) + 0.5) * (height / rows)
    return np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape)


def cells(
    x: np.ndarray, y: np.ndarray, size: tuple[float, float], stagger: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and distance to the nearest joint in metres for a wall of ``size`` blocks, each
    course shifted by ``stagger`` of a block."""
    # Rows and columns of pixels are few, so that all but the last lines work on lines of them.
    rows, odd = np.floor(y[:, 0] / size[1]).astype(int), np.array([[0], [1]])
    across = x[0] / size[0] + stagger * odd
    columns = np.floor(across).astype(int)
    sideways = (0.5 - np.abs(across - columns - 0.5)) * size[0]
    upright = (0.5 - np.abs(y[:, 0] / size[1] - rows - 0.5)) * size[1]
    edge = np.minimum(sideways.astype(np.float32)[rows % 2], upright.astype(np.float32)[:, None])
    return np.broadcast_to(rows[:, None], x.shape), columns[rows % 2], edge
