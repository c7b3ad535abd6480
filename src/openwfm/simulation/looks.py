"""How a scene looks: table, background and light, drawn from a bounded, low-contrast palette."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.bodies import Vector

TEXTURE_SIDE = 64

TABLES: dict[str, Vector] = {
    "grey": (0.62, 0.62, 0.64),
    "beige": (0.78, 0.70, 0.56),
    "brown": (0.55, 0.42, 0.32),
    "slate": (0.40, 0.47, 0.55),
    "sage": (0.55, 0.62, 0.52),
    "cream": (0.86, 0.83, 0.76),
}
PATTERNS = {
    "gradient": "plain {} table",
    "checker": "{} checkered table",
    "stripes": "{} striped table",
    "noise": "mottled {} table",
}
BACKGROUNDS: tuple[Vector, ...] = (
    (0.82, 0.86, 0.90),
    (0.25, 0.29, 0.36),
    (0.90, 0.86, 0.78),
    (0.45, 0.52, 0.58),
    (0.13, 0.14, 0.17),
    (0.60, 0.66, 0.60),
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """``texture`` and ``background`` are RGB in [0, 1]; ``light`` is the direction it shines in."""

    table: str
    pattern: str
    texture: np.ndarray
    background: Vector
    light: Vector
    brightness: float

    @property
    def table_name(self) -> str:
        return PATTERNS[self.pattern].format(self.table)


def draw_look(rng: np.random.Generator) -> Look:
    table = str(rng.choice(list(TABLES)))
    pattern = str(rng.choice(list(PATTERNS)))
    angle, tilt = rng.uniform(0, 2 * math.pi), rng.uniform(0.15, 0.45)
    return Look(
        table=table,
        pattern=pattern,
        texture=_texture(pattern, TABLES[table], rng),
        background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        light=(tilt * math.cos(angle), tilt * math.sin(angle), -1.0),
        brightness=float(rng.uniform(0.85, 1.05)),
    )


def _texture(pattern: str, colour: Vector, rng: np.random.Generator) -> np.ndarray:
    """Square RGB image; the pattern changes the brightness by at most 18 percent."""
    side = np.linspace(-1, 1, TEXTURE_SIDE)
    x, y = np.meshgrid(side, side)
    angle = rng.uniform(0, math.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    if pattern == "gradient":
        shade = along / math.sqrt(2)
    elif pattern == "checker":
        tiles = math.pi * rng.integers(2, 4)
        shade = np.tanh(4 * np.sin(tiles * x) * np.sin(tiles * y))
    elif pattern == "stripes":
        shade = np.sin(math.pi * rng.uniform(2, 3.5) * along)
    else:
        shade = _soft_noise(rng)
    image = np.asarray(colour) * (1 + rng.uniform(0.10, 0.18) * shade[..., None])
    return np.clip(image, 0, 1)


def _soft_noise(rng: np.random.Generator) -> np.ndarray:
    """A few random plane waves of low frequency, scaled into [-1, 1]."""
    side = np.linspace(-math.pi, math.pi, TEXTURE_SIDE)
    x, y = np.meshgrid(side, side)
    waves = rng.uniform(-2.5, 2.5, size=(6, 2))
    phases = rng.uniform(0, 2 * math.pi, size=6)
    total = np.sum(
        [np.sin(a * x + b * y + p) for (a, b), p in zip(waves, phases, strict=True)], axis=0
    )
    return total / np.abs(total).max()
