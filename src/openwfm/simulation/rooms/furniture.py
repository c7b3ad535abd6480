"""Furniture: each function draws one piece, standing around its own origin and facing +y."""

from __future__ import annotations

import math
from dataclasses import replace

from openwfm.simulation.bodies import Vector, half_extents
from openwfm.simulation.rooms.palette import (
    BOOKS,
    COLOURS,
    METAL,
    PAINTINGS,
    WOODS,
    Random,
    darker,
    pick,
)
from openwfm.simulation.rooms.parts import Part, Thing, blob, box, column, legs, panel, place


def table(rng: Random) -> Thing:
    """A dining table with a vase, a bowl or a pile of books on it."""
    wood, colour = pick(rng, WOODS)
    top = 0.74
    if rng.random() < 0.35:
        radius = rng.uniform(0.5, 0.65)
        parts: list[Part] = [
            column((0, 0, top), radius, 0.02, "wood", colour),
            column((0, 0, top / 2), 0.06, top / 2, "wood", darker(colour, 0.8)),
            column((0, 0, 0.02), 0.3, 0.02, "wood", darker(colour, 0.8)),
        ]
        name = f"round {wood} table"
    else:
        width, depth = rng.uniform(1.2, 1.7), rng.uniform(0.75, 0.95)
        parts = [box((0, 0, top), (width / 2, depth / 2, 0.025), "wood", colour)]
        parts += legs(width - 0.1, depth - 0.1, top, "wood", darker(colour, 0.8))
        name = f"{wood} table"
    return Thing(name=name, parts=(*parts, *ornament(rng, 0.0, 0.0, top + 0.025)))


def ornament(rng: Random, x: float, y: float, z: float) -> tuple[Part, ...]:
    """A vase with flowers, a fruit bowl or a pile of books, standing at a point."""
    _, colour = pick(rng, COLOURS)
    kind = rng.integers(3)
    if kind == 0:
        bunch = [
            blob((x + dx, y + dy, z + 0.32), (0.055, 0.055, 0.06), "leaves", pick(rng, COLOURS)[1])
            for dx, dy in rng.uniform(-0.08, 0.08, (3, 2)).tolist()
        ]
        return (column((x, y, z + 0.12), 0.055, 0.12, "rock", colour), *bunch)
    if kind == 1:
        fruit = [
            blob((x + dx, y, z + 0.1), (0.055, 0.055, 0.055), "smooth", COLOURS[name])
            for dx, name in ((-0.07, "red"), (0.06, "orange"), (0.0, "yellow"))
        ]
        return (column((x, y, z + 0.03), 0.16, 0.03, "rock", colour), *fruit)
    return tuple(
        box((x, y, z + 0.025 + 0.05 * level), (0.13 - 0.02 * level, 0.09, 0.024), "cloth", paint)
        for level, paint in enumerate([colour, pick(rng, COLOURS)[1]])
    )


def chair(rng: Random) -> Thing:
    wood, colour = pick(rng, WOODS)
    return _chair(wood, colour, pick(rng, COLOURS)[1])


def _chair(wood: str, colour: Vector, seat: Vector) -> Thing:
    back = darker(colour, 0.9)
    parts = (
        box((0, 0, 0.45), (0.22, 0.21, 0.03), "cloth", seat),
        *legs(0.44, 0.42, 0.43, "wood", darker(colour, 0.75)),
        box((-0.19, -0.2, 0.7), (0.025, 0.02, 0.25), "wood", back),
        box((0.19, -0.2, 0.7), (0.025, 0.02, 0.25), "wood", back),
        box((0, -0.2, 0.84), (0.19, 0.018, 0.09), "wood", back),
        box((0, -0.2, 0.64), (0.19, 0.018, 0.035), "wood", back),
    )
    return Thing(name=f"{wood} chair", parts=parts)


def dining_set(rng: Random) -> list[Thing]:
    """A table with two to four equal chairs that face it."""
    middle = table(rng)
    top = middle.parts[0]
    right, deep, _ = half_extents(top.shape, top.size)
    one = _chair(*pick(rng, WOODS), pick(rng, COLOURS)[1])
    places = [(0.0, deep + 0.18, math.pi), (0.0, -deep - 0.18, 0.0)]
    places += [(right + 0.2, 0.0, math.pi / 2), (-right - 0.2, 0.0, -math.pi / 2)]
    count = int(rng.integers(2, 5))
    return [middle, *(place(one, x, y, yaw) for x, y, yaw in places[:count])]


def workplace(rng: Random) -> list[Thing]:
    """A desk and its chair."""
    return [desk(rng), place(chair(rng), rng.uniform(-0.2, 0.1), 0.5, math.pi)]


def sofa(rng: Random) -> Thing:
    name, colour = pick(rng, COLOURS)
    width = rng.uniform(1.7, 2.2)
    half = width / 2
    _, other = pick(rng, COLOURS)
    cushions = [
        box((side * (half - 0.42), 0.02, 0.5), (half - 0.46, 0.32, 0.07), "cloth", colour)
        for side in (-0.5, 0.5)
    ]
    parts = (
        box((0, 0, 0.25), (half, 0.42, 0.18), "cloth", darker(colour, 0.82)),
        box((0, -0.34, 0.6), (half, 0.1, 0.28), "cloth", colour),
        box((-half + 0.1, 0, 0.42), (0.1, 0.42, 0.2), "cloth", darker(colour, 0.9)),
        box((half - 0.1, 0, 0.42), (0.1, 0.42, 0.2), "cloth", darker(colour, 0.9)),
        *cushions,
        box((half - 0.42, -0.14, 0.7), (0.2, 0.08, 0.17), "cloth", other),
    )
    return Thing(name=f"{name} sofa", parts=parts)


def armchair(rng: Random) -> Thing:
    name, colour = pick(rng, COLOURS)
    parts = (
        box((0, 0, 0.24), (0.4, 0.4, 0.17), "cloth", darker(colour, 0.82)),
        box((0, -0.31, 0.62), (0.4, 0.09, 0.32), "cloth", colour),
        box((-0.33, 0, 0.42), (0.07, 0.4, 0.2), "cloth", darker(colour, 0.9)),
        box((0.33, 0, 0.42), (0.07, 0.4, 0.2), "cloth", darker(colour, 0.9)),
        box((0, 0.06, 0.46), (0.25, 0.31, 0.07), "cloth", colour),
    )
    return Thing(name=f"{name} armchair", parts=parts)


def coffee_table(rng: Random) -> Thing:
    wood, colour = pick(rng, WOODS)
    width, depth = rng.uniform(0.8, 1.1), rng.uniform(0.5, 0.65)
    parts = (
        box((0, 0, 0.42), (width / 2, depth / 2, 0.025), "wood", colour),
        box((0, 0, 0.16), (width / 2 - 0.06, depth / 2 - 0.06, 0.015), "wood", colour),
        *legs(width, depth, 0.4, "wood", darker(colour, 0.8)),
        *ornament(rng, 0.0, 0.0, 0.445),
    )
    return Thing(name=f"{wood} coffee table", parts=parts)


def bookshelf(rng: Random) -> Thing:
    """Open shelves full of books, and here and there a pot."""
    wood, colour = pick(rng, WOODS)
    width, levels = rng.uniform(0.8, 1.2), int(rng.integers(3, 6))
    pitch = 0.38
    height, half = levels * pitch + 0.06, width / 2
    parts = [
        box((0, -0.13, height / 2), (half, 0.015, height / 2), "wood", darker(colour, 0.55)),
        box((-half, 0, height / 2), (0.02, 0.15, height / 2), "wood", colour),
        box((half, 0, height / 2), (0.02, 0.15, height / 2), "wood", colour),
    ]
    parts += [
        box((0, 0, 0.04 + pitch * level), (half, 0.15, 0.02), "wood", colour)
        for level in range(levels + 1)
    ]
    for level in range(levels):
        tall, share = rng.uniform(0.24, 0.31), rng.uniform(0.6, 1.0)
        at = (width - 0.06) * (1 - share) / 2 * float(rng.choice([-1, 1]))
        middle = (at, -0.02, 0.06 + pitch * level + tall / 2)
        row = panel(middle, (width - 0.06) * share, tall, str(rng.choice(BOOKS)))
        parts.append(replace(row, size=(*row.size[:2], 0.1)))
        if share < 0.8:
            side = -math.copysign(half - 0.13, at)
            _, paint = pick(rng, COLOURS)
            parts.append(column((side, 0, 0.16 + pitch * level), 0.06, 0.1, "rock", paint))
    return Thing(name=f"{wood} bookshelf", parts=tuple(parts))


def cabinet(rng: Random) -> Thing:
    """A sideboard with doors and something on it."""
    wood, colour = pick(rng, WOODS)
    width, height = rng.uniform(1.0, 1.6), rng.uniform(0.7, 0.95)
    doors = 2 if width < 1.3 else 3
    each = width / doors
    parts = [box((0, 0, height / 2 + 0.04), (width / 2, 0.21, height / 2 - 0.04), "wood", colour)]
    for index in range(doors):
        x = (index + 0.5) * each - width / 2
        front = (each / 2 - 0.03, 0.012, height / 2 - 0.1)
        parts.append(box((x, 0.215, height / 2 + 0.04), front, "wood", darker(colour, 0.82)))
        parts.append(box((x + each / 2 - 0.09, 0.235, height / 2 + 0.1), (0.012, 0.012, 0.06),
                         "smooth", METAL))  # fmt: skip
    parts += ornament(rng, rng.uniform(-0.3, 0.3) * width, 0.0, height)
    return Thing(name=f"{wood} cabinet", parts=tuple(parts))


def wardrobe(rng: Random) -> Thing:
    wood, colour = pick(rng, WOODS)
    width, height = rng.uniform(1.0, 1.4), rng.uniform(1.9, 2.1)
    parts = [box((0, 0, height / 2), (width / 2, 0.27, height / 2), "wood", colour)]
    for side in (-1, 1):
        x = side * width / 4
        parts.append(box((x, 0.275, height / 2), (width / 4 - 0.02, 0.012, height / 2 - 0.07),
                         "wood", darker(colour, 0.85)))  # fmt: skip
        parts.append(box((side * 0.06, 0.3, height / 2), (0.012, 0.02, 0.09), "smooth", METAL))
    return Thing(name=f"{wood} wardrobe", parts=tuple(parts))


def desk(rng: Random) -> Thing:
    """With a screen, a lamp or books on it."""
    wood, colour = pick(rng, WOODS)
    width = rng.uniform(1.1, 1.5)
    parts = [
        box((0, 0, 0.73), (width / 2, 0.33, 0.02), "wood", colour),
        box((width / 2 - 0.22, 0, 0.4), (0.18, 0.3, 0.31), "wood", darker(colour, 0.85)),
        *legs(width, 0.62, 0.71, "wood", darker(colour, 0.8)),
    ]
    if rng.random() < 0.6:
        parts += [
            box((0, -0.16, 0.76), (0.12, 0.08, 0.01), "smooth", METAL),
            box((0, -0.2, 0.84), (0.02, 0.015, 0.08), "smooth", METAL),
            box((0, -0.2, 1.06), (0.3, 0.02, 0.18), "smooth", METAL),
            panel((0, -0.195, 1.06), 0.56, 0.32, str(rng.choice(PAINTINGS))),
        ]
    return Thing(name=f"{wood} desk", parts=(*parts, *ornament(rng, -width / 2 + 0.25, 0.0, 0.75)))


def bed(rng: Random) -> Thing:
    """Its head is at -y."""
    name, colour = pick(rng, COLOURS)
    _, wood = pick(rng, WOODS)
    half = rng.uniform(0.7, 0.85)
    pillows = [
        box((side * half * 0.5, -0.7, 0.58), (half * 0.42, 0.2, 0.07), "cloth", COLOURS["white"])
        for side in (-1, 1)
    ]
    parts = (
        box((0, 0, 0.2), (half, 1.0, 0.12), "wood", wood),
        box((0, -1.0, 0.55), (half + 0.04, 0.04, 0.5), "wood", darker(wood, 0.85)),
        box((0, 0, 0.42), (half - 0.03, 0.96, 0.11), "cloth", COLOURS["white"]),
        box((0, 0.25, 0.46), (half + 0.01, 0.74, 0.11), "cloth", colour),
        *pillows,
    )
    return Thing(name=f"{name} bed", parts=parts)


def lamp(rng: Random) -> Thing:
    name, colour = pick(rng, COLOURS)
    height = rng.uniform(1.4, 1.65)
    parts = (
        column((0, 0, 0.015), 0.15, 0.015, "smooth", METAL),
        column((0, 0, height / 2), 0.015, height / 2, "smooth", METAL),
        column((0, 0, height), 0.19, 0.15, "cloth", colour),
    )
    return Thing(name=f"{name} floor lamp", parts=parts)


def plant(rng: Random) -> Thing:
    _, pot = pick(rng, {**COLOURS, "clay": (0.72, 0.38, 0.24)})
    height = rng.uniform(0.7, 1.3)
    crown = [
        blob((x, y, height + z), (0.15, 0.15, 0.2), "leaves", (0.35, 0.72, 0.3))
        for x, y, z in rng.uniform(-0.2, 0.2, (6, 3)).tolist()
    ]
    parts = (
        column((0, 0, 0.19), 0.17, 0.19, "rock", pot),
        column((0, 0, height / 2), 0.02, height / 2, "bark", (0.5, 0.36, 0.22)),
        *crown,
    )
    return Thing(name="potted plant", parts=parts)


def stool(rng: Random) -> Thing:
    name, colour = pick(rng, COLOURS)
    parts = (
        column((0, 0, 0.44), 0.2, 0.035, "cloth", colour),
        *legs(0.3, 0.3, 0.41, "wood", WOODS["wooden"]),
    )
    return Thing(name=f"{name} stool", parts=parts)
