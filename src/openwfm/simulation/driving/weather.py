"""Weather and light: sky, sun, colours, haze by distance, and falling rain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
SKY_SIDE = 64
HIDDEN = 0.12  # clearness below which nothing is made out
PHRASES = {
    "day": ("on a clear day", "in bright daylight", "on a sunny day"),
    "dusk": ("at dusk", "in the evening light", "as night falls"),
    "rain": ("in the rain", "on a rainy day", "in wet weather"),
    "fog": ("in fog", "on a foggy day", "in thick mist"),
}


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Colours are RGB in [0, 1]; ``sun`` is the direction of the light; ``sight`` is the distance
    in metres at which 63 percent of the light is haze (None: none); ``glow`` lights lamps and
    windows up; ``rain`` is the share of the picture that streaks may cover."""

    name: str
    zenith: Colour
    horizon: Colour
    clouds: float
    sun: Colour
    light: Colour
    ambient: Colour
    sight: float | None
    glow: float
    rain: float

    @property
    def shadow(self) -> tuple[float, float] | None:
        """The shadow of a post of one metre, or None under a covered sky."""
        if self.name not in ("day", "dusk"):
            return None
        return self.sun[0] / -self.sun[2], self.sun[1] / -self.sun[2]


def draw_weather(rng: np.random.Generator, name: str) -> Weather:
    angle = rng.uniform(0, 2 * math.pi)
    tilt = {"day": rng.uniform(0.4, 0.9), "dusk": rng.uniform(1.3, 1.8)}.get(name, 0.05)
    sun = (tilt * math.cos(angle), tilt * math.sin(angle), -1.0)
    if name == "day":
        blue = rng.uniform(0.0, 0.12)
        return Weather(
            name=name, zenith=(0.24 + blue, 0.48 + blue, 0.86), horizon=(0.78, 0.87, 0.95),
            clouds=rng.uniform(0.2, 0.9), sun=sun, light=(0.72, 0.69, 0.62),
            ambient=(0.48, 0.50, 0.55), sight=None, glow=0.0, rain=0.0,
        )  # fmt: skip
    if name == "dusk":
        red = rng.uniform(0.0, 0.15)
        return Weather(
            name=name, zenith=(0.13, 0.15, 0.34), horizon=(0.93, 0.50 + red, 0.32),
            clouds=rng.uniform(0.1, 0.5), sun=sun, light=(0.46, 0.32, 0.24),
            ambient=(0.36, 0.35, 0.44), sight=None, glow=1.0, rain=0.0,
        )  # fmt: skip
    if name == "rain":
        grey = rng.uniform(0.46, 0.6)
        return Weather(
            name=name, zenith=(grey - 0.08, grey - 0.05, grey),
            horizon=(grey, grey + 0.02, grey + 0.05), clouds=0.5, sun=sun,
            light=(0.20, 0.20, 0.21), ambient=(0.58, 0.60, 0.64),
            sight=rng.uniform(110, 170), glow=0.45, rain=rng.uniform(0.5, 1.0),
        )  # fmt: skip
    pale = rng.uniform(0.70, 0.82)
    haze = (pale, pale + 0.01, pale + 0.02)
    return Weather(
        name=name, zenith=haze, horizon=haze, clouds=0.0, sun=sun, light=(0.14, 0.14, 0.14),
        ambient=(0.60, 0.61, 0.63), sight=rng.uniform(26, 48), glow=0.45, rain=0.0,
    )  # fmt: skip


def sky(weather: Weather, rng: np.random.Generator) -> np.ndarray:
    """uint8 ``6s s 3``: right, left, up, down, front, back; clouds float above the horizon."""
    side = np.linspace(-1, 1, SKY_SIDE)
    x, up = np.meshgrid(side, -side)
    top, low = np.asarray(weather.zenith), np.asarray(weather.horizon)
    faces = []
    for face in range(6):
        height = np.full_like(up, 1.0 if face == 2 else -1.0) if face in (2, 3) else up
        climb = np.clip(height / np.sqrt(1 + x**2 + height**2) / 0.7, 0, 1)[..., None] ** 0.7
        image = low + (top - low) * climb
        if face not in (2, 3):
            cloud = _puffs(x, up, rng) * np.clip(4 * up, 0, 1) * np.clip(4 - 4 * up, 0, 1)
            shade = 0.5 * low + 0.5 * (1.0 if weather.name == "day" else low)
            edge = np.clip(8 - 8 * np.abs(x), 0, 1)
            image += (weather.clouds * cloud * edge)[..., None] * (shade - image)
        faces.append(image)
    return np.rint(255 * np.clip(np.concatenate(faces), 0, 1)).astype(np.uint8)


def _puffs(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Soft blobs in [0, 1], wider than high."""
    total = np.zeros_like(x)
    for _ in range(9):
        cx, cy, wide = rng.uniform(-0.9, 0.9), rng.uniform(0.1, 0.8), rng.uniform(0.08, 0.3)
        total += np.exp(-(((x - cx) / wide) ** 2) - ((y - cy) / (0.35 * wide)) ** 2)
    return np.clip(total, 0, 1)


def clearness(distance: np.ndarray, weather: Weather) -> np.ndarray:
    """The share of the light that is left after ``distance`` metres (Beer and Lambert's law)."""
    assert weather.sight is not None
    return np.asarray(np.exp(-distance / weather.sight), np.float32)


def through_haze(picture: np.ndarray, clear: np.ndarray, weather: Weather) -> np.ndarray:
    """uint8 ``h w 3`` through air of which ``clear`` ``h w`` is left to see through."""
    air = 255 * np.asarray(weather.horizon, np.float32)
    return np.rint(air + (picture - air) * clear[..., None]).astype(np.uint8)


class Rain:
    """Streaks that fall through a view: two layers of fixed streaks at a new place every frame."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, amount: float) -> None:
        self._height, self._width, self._rng = height, width, rng
        self._layers = [
            _streaks(rng, 2 * height, 2 * width, amount * share, max(2, round(height * length)))
            for share, length in ((0.020, 0.10), (0.006, 0.22))
        ]

    def fall(self, picture: np.ndarray) -> np.ndarray:
        cover = np.zeros((self._height, self._width), np.float32)
        for layer in self._layers:
            row, column = (int(self._rng.integers(size)) for size in (self._height, self._width))
            cover += layer[row : row + self._height, column : column + self._width]
        cover = np.minimum(cover, 0.6)[..., None]
        return np.rint(picture + cover * (215 - picture.astype(np.float32))).astype(np.uint8)


def _streaks(
    rng: np.random.Generator, height: int, width: int, share: float, length: int
) -> np.ndarray:
    """float32 ``h w``: opacity of slightly slanted lines that start at ``share`` of the pixels."""
    drops = np.where(rng.random((height, width)) < share, rng.uniform(0.08, 0.3), 0.0)
    total = np.zeros((height, width), np.float32)
    for step in range(length):
        total += np.roll(drops, (step, -(step // 5)), axis=(0, 1)).astype(np.float32)
    return total
