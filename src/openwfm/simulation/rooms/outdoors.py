"""What stands in courts and gardens: each function draws one piece, facing +y around its origin."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from openwfm.simulation.rooms.palette import COLOURS, METAL, WOODS, Random, darker, pick
from openwfm.simulation.rooms.parts import Part, Thing, blob, box, column, legs

STONE = (0.78, 0.75, 0.69)
CLAY = (0.72, 0.40, 0.26)
BARK = (0.50, 0.38, 0.27)
GREENS = {
    "green": (0.42, 0.72, 0.30),
    "dark green": (0.25, 0.52, 0.25),
    "yellow": (0.90, 0.75, 0.25),
    "red": (0.80, 0.33, 0.18),
}


def tree(rng: Random) -> Thing:
    """A trunk and a crown of five leafy balls that hang clear of a walker's head."""
    name, colour = pick(rng, GREENS)
    height = rng.uniform(2.6, 3.6)
    crown = [
        blob((x, y, height + z), (0.75, 0.75, 0.62), "leaves", darker(colour, shade))
        for (x, y, z), shade in zip(
            rng.uniform(-0.55, 0.55, (5, 3)).tolist(), rng.uniform(0.8, 1.1, 5).tolist(),
            strict=True,
        )
    ]  # fmt: skip
    trunk = column((0, 0, height / 2), rng.uniform(0.1, 0.16), height / 2, "bark", BARK)
    return Thing(name=f"{name} tree" if name != "green" else "tree", parts=(trunk, *crown))


def cypress(rng: Random) -> Thing:
    height = rng.uniform(1.6, 2.4)
    parts = (
        column((0, 0, 0.15), 0.07, 0.15, "bark", BARK),
        blob((0, 0, height / 2 + 0.2), (0.38, 0.38, height / 2), "leaves", GREENS["dark green"]),
    )
    return Thing(name="cypress", parts=parts)


def bush(rng: Random) -> Thing:
    _, flower = pick(rng, COLOURS)
    parts = [
        blob((x, y, 0.38), (0.38, 0.36, 0.38), "leaves", GREENS["green"])
        for x, y in rng.uniform(-0.25, 0.25, (3, 2)).tolist()
    ]
    parts += [
        blob((x, y, 0.68), (0.09, 0.09, 0.08), "leaves", flower)
        for x, y in rng.uniform(-0.3, 0.3, (4, 2)).tolist()
    ]
    return Thing(name="flowering bush", parts=tuple(parts))


def bench(rng: Random) -> Thing:
    name, colour = pick(rng, {**WOODS, "green": COLOURS["green"], "blue": COLOURS["blue"]})
    half = rng.uniform(0.7, 0.95)
    slats = [box((0, y, 0.45), (half, 0.05, 0.018), "wood", colour) for y in (-0.13, 0.0, 0.13)]
    back = [box((0, -0.23, z), (half, 0.016, 0.05), "wood", colour) for z in (0.62, 0.78)]
    ends = [
        box((side * (half - 0.1), -0.03, 0.3), (0.025, 0.2, 0.14), "smooth", METAL)
        for side in (-1, 1)
    ]
    stand = legs(2 * half - 0.14, 0.4, 0.43, "smooth", METAL)
    posts = [
        box((side * (half - 0.1), -0.25, 0.6), (0.025, 0.016, 0.24), "smooth", METAL)
        for side in (-1, 1)
    ]
    return Thing(name=f"{name} bench", parts=(*slats, *back, *ends, *stand, *posts))


def planter(rng: Random) -> Thing:
    """A long box of flowers."""
    half = rng.uniform(0.5, 0.8)
    blooms = [
        blob((x, y, 0.58), (0.13, 0.13, 0.14), "leaves", pick(rng, COLOURS)[1])
        for x, y in zip(
            [half * (0.3 * k - 0.75) for k in range(6)], rng.uniform(-0.08, 0.08, 6), strict=True
        )
    ]
    trough = box((0, 0, 0.24), (half, 0.22, 0.24), "rock", pick(rng, {"a": CLAY, "b": STONE})[1])
    earth = box((0, 0, 0.49), (half - 0.04, 0.18, 0.015), "bark", (0.35, 0.25, 0.18))
    return Thing(name="flower box", parts=(trough, earth, *blooms))


def lamp_post(rng: Random) -> Thing:
    height = rng.uniform(2.3, 2.8)
    parts = (
        column((0, 0, 0.1), 0.13, 0.1, "smooth", METAL),
        column((0, 0, height / 2), 0.045, height / 2, "smooth", METAL),
        box((0, 0, height + 0.17), (0.13, 0.13, 0.17), "smooth", (1.0, 0.93, 0.72)),
        box((0, 0, height + 0.37), (0.17, 0.17, 0.03), "smooth", METAL),
    )
    return Thing(name="lamp post", parts=parts)


def barrel(rng: Random) -> Thing:
    name, colour = pick(rng, {**WOODS, "blue": COLOURS["blue"], "red": COLOURS["red"]})
    bands = [column((0, 0, z), 0.31, 0.03, "smooth", METAL) for z in (0.18, 0.66)]
    return Thing(
        name=f"{name} barrel", parts=(column((0, 0, 0.42), 0.3, 0.42, "wood", colour), *bands)
    )


def crates(rng: Random) -> Thing:
    wood, colour = pick(rng, WOODS)
    parts = [
        box((-0.28, 0, 0.25), (0.25, 0.25, 0.25), "wood", colour),
        box((0.27, 0.04, 0.22), (0.22, 0.22, 0.22), "wood", darker(colour, 0.85)),
        box((-0.2, 0.02, 0.68), (0.18, 0.18, 0.18), "wood", darker(colour, 1.1)),
    ]
    return Thing(name=f"pile of {wood} crates", parts=tuple(parts))


def fountain(rng: Random) -> Thing:
    """A basin, a column and two bowls."""
    radius = rng.uniform(0.8, 1.1)
    water = (0.45, 0.68, 0.80)
    parts = (
        column((0, 0, 0.2), radius, 0.2, "rock", STONE),
        column((0, 0, 0.41), radius - 0.12, 0.012, "smooth", water),
        column((0, 0, 0.6), 0.12, 0.6, "rock", STONE),
        column((0, 0, 0.9), 0.45, 0.05, "rock", STONE),
        column((0, 0, 0.955), 0.39, 0.01, "smooth", water),
        column((0, 0, 1.22), 0.22, 0.04, "rock", STONE),
        blob((0, 0, 1.36), (0.1, 0.1, 0.12), "rock", STONE),
    )
    return Thing(name="stone fountain", parts=parts)


def statue(rng: Random) -> Thing:
    """A bust on a pedestal."""
    tone = darker(STONE, rng.uniform(0.8, 1.15))
    parts = (
        box((0, 0, 0.08), (0.38, 0.38, 0.08), "rock", tone),
        box((0, 0, 0.6), (0.28, 0.28, 0.45), "rock", tone),
        box((0, 0, 1.08), (0.33, 0.33, 0.04), "rock", tone),
        blob((0, 0, 1.3), (0.3, 0.17, 0.24), "rock", tone),
        column((0, 0, 1.52), 0.07, 0.1, "rock", tone),
        blob((0, 0.02, 1.7), (0.13, 0.15, 0.18), "rock", tone),
    )
    return Thing(name="statue", parts=parts)


def parasol_table(rng: Random) -> Thing:
    """A round table under a parasol."""
    name, colour = pick(rng, COLOURS)
    cover: list[Part] = [
        column((0, 0, 2.25 + 0.07 * level), 1.1 - 0.3 * level, 0.035, "cloth", colour)
        for level in range(4)
    ]
    parts = (
        column((0, 0, 0.72), 0.5, 0.02, "wood", WOODS["pale wooden"]),
        column((0, 0, 1.2), 0.025, 1.2, "smooth", COLOURS["white"]),
        column((0, 0, 0.04), 0.28, 0.04, "rock", STONE),
        *cover,
    )
    return Thing(name=f"garden table under a {name} parasol", parts=parts)


def well(rng: Random) -> Thing:
    """A round well with a roof on two posts."""
    posts = [
        box((side * 0.5, 0, 0.95), (0.05, 0.05, 0.95), "wood", WOODS["dark wooden"])
        for side in (-1, 1)
    ]
    tilt = rng.uniform(0.5, 0.65)
    roof = [_slope(side * tilt) for side in (-1.0, 1.0)]
    shaft = column((0, 0, 0.4), 0.55, 0.4, "rock", darker(STONE, 0.85))
    dark = column((0, 0, 0.805), 0.42, 0.01, "smooth", (0.12, 0.16, 0.2))
    return Thing(name="stone well", parts=(shaft, dark, *posts, *roof))


def _slope(angle: float) -> Part:
    """One half of a roof whose ridge runs along x at 2.2 m."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[1.0, 0, 0], [0, cos, sin], [0, -sin, cos]])
    flat = box((0, math.copysign(0.36, angle), 2.2 - 0.36 * math.tan(abs(angle))),
               (0.75, 0.46, 0.03), "wood", CLAY)  # fmt: skip
    return replace(flat, rotation=turn)
