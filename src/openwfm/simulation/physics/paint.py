"""What is painted on things: patterns that make a turning body visible, and the background."""

from __future__ import annotations

import numpy as np

from openwfm.simulation.bodies import COLOURS, Vector
from openwfm.simulation.looks import Look

FACE_SIDE, SKY_SIDE = 32, 16
PATTERNS = ("plain", "stripes", "checks", "spots", "halves")
# Wood, stone, steel, sand: nothing that a piece is called.
FIXTURE_COLOURS: tuple[Vector, ...] = (
    (0.62, 0.46, 0.30),
    (0.58, 0.58, 0.60),
    (0.40, 0.42, 0.46),
    (0.76, 0.70, 0.58),
)
BOARD_COLOURS: tuple[Vector, ...] = ((0.72, 0.54, 0.34), (0.50, 0.36, 0.24), (0.80, 0.78, 0.74))


def contrasting(colours: tuple[Vector, ...], floor: np.ndarray, number: int) -> Vector:
    """One of the ``colours`` that stand out from the floor's mean colour, by ``number``."""
    order = sorted(colours, key=lambda c: -float(np.linalg.norm(np.asarray(c) - floor)))
    return order[number % max(1, len(colours) - 2)]


def faces(colour: str, pattern: str) -> np.ndarray:
    """uint8 ``6·side side 3``: the six faces of a cube, each with the pattern in the colour."""
    side = np.arange(FACE_SIDE)
    x, y = np.meshgrid(side, side)
    half = FACE_SIDE // 2
    if pattern == "stripes":
        dark = x // (FACE_SIDE // 4) % 2 == 1
    elif pattern == "checks":
        dark = (x // half + y // half) % 2 == 1
    elif pattern == "spots":
        dark = (x - half + 0.5) ** 2 + (y - half + 0.5) ** 2 < (0.28 * FACE_SIDE) ** 2
    elif pattern == "halves":
        dark = x < half
    else:
        dark = np.zeros_like(x, dtype=bool)
    base = np.asarray(COLOURS[colour])
    # Spots are light, everything else is dark: the colour's name stays true.
    other = base + 0.55 * (1 - base) if pattern == "spots" else 0.55 * base
    face = np.where(dark[..., None], other, base)
    return np.tile(np.rint(255 * face).astype(np.uint8), (6, 1, 1))


def sky(look: Look) -> np.ndarray:
    """uint8 ``6·side side 3``, faces right, left, up, down, back, front: the background colour,
    8 percent lighter overhead and as much darker underfoot."""
    side = np.linspace(1.08, 0.92, SKY_SIDE)
    above, below = np.full(SKY_SIDE, side[0]), np.full(SKY_SIDE, side[-1])
    shade = np.concatenate([side, side, above, below, side, side])
    column = np.clip(shade[:, None] * np.asarray(look.background), 0, 1)
    return np.rint(255 * column[:, None].repeat(SKY_SIDE, axis=1)).astype(np.uint8)
