"""Smooth noise and metric grids: what every texture is made of."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=256)
def _stretch(size: int, knots: int) -> np.ndarray:
    """``size knots``: smooth interpolation between evenly spaced knots."""
    at = np.linspace(0, knots - 1, size)
    left = np.minimum(at.astype(int), knots - 2)
    part = at - left
    part = part * part * (3 - 2 * part)
    weights = np.zeros((size, knots), np.float32)
    rows = np.arange(size)
    weights[rows, left], weights[rows, left + 1] = 1 - part, part
    return weights


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``h w`` to ``height width``, smoothly; the corners stay where they are."""
    return _stretch(height, image.shape[0]) @ image @ _stretch(width, image.shape[1]).T


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
    row = np.floor(y / size[1]).astype(int)
    across = x / size[0] + stagger * (row % 2)
    column = np.floor(across).astype(int)
    sideways = np.abs(across - column - 0.5)
    upright = np.abs(y / size[1] - row - 0.5)
    return row, column, np.minimum((0.5 - sideways) * size[0], (0.5 - upright) * size[1])
