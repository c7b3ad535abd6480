"""Colours with their names, and the names of the pictures that things carry."""

from __future__ import annotations

import numpy as np

from openwfm.simulation.bodies import Vector

Random = np.random.Generator

COLOURS: dict[str, Vector] = {
    "red": (0.80, 0.20, 0.17),
    "orange": (0.93, 0.52, 0.18),
    "yellow": (0.95, 0.80, 0.28),
    "green": (0.25, 0.52, 0.27),
    "teal": (0.16, 0.52, 0.55),
    "blue": (0.22, 0.38, 0.70),
    "purple": (0.48, 0.28, 0.56),
    "grey": (0.55, 0.56, 0.58),
    "white": (0.95, 0.95, 0.93),
}
WOODS: dict[str, Vector] = {
    "pale wooden": (0.87, 0.70, 0.48),
    "wooden": (0.66, 0.43, 0.25),
    "dark wooden": (0.38, 0.23, 0.14),
}
METAL: Vector = (0.25, 0.26, 0.28)
BOOKS = ("books0", "books1", "books2", "books3")
PAINTINGS = ("painting0", "painting1", "painting2", "painting3", "painting4", "painting5")


def pick(rng: Random, table: dict[str, Vector]) -> tuple[str, Vector]:
    name = str(rng.choice(list(table)))
    return name, table[name]


def darker(colour: Vector, by: float) -> Vector:
    r, g, b = colour
    return (r * by, g * by, b * by)
