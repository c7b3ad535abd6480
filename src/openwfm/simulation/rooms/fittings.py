"""What belongs to a room's walls and floor: rugs, paintings, windows, doors."""

from __future__ import annotations

from openwfm.simulation.rooms.palette import COLOURS, PAINTINGS, WOODS, Random, pick
from openwfm.simulation.rooms.parts import Thing, box, panel


def rug(rng: Random) -> Thing:
    """Its picture faces up."""
    half = (float(rng.uniform(0.95, 1.4)), float(rng.uniform(0.75, 1.05)), 0.008)
    return Thing(name="patterned rug", parts=(box((0, 0, 0.009), half, "rug"),))


def painting(rng: Random) -> Thing:
    """Hung around its own origin."""
    width, height = rng.uniform(0.55, 1.0), rng.uniform(0.5, 0.8)
    hung = panel((0, 0, 0), width, height, str(rng.choice(PAINTINGS)))
    return Thing(name="painting", parts=(hung,))


def window(rng: Random) -> Thing:
    width, height = rng.uniform(1.1, 1.5), rng.uniform(1.1, 1.3)
    sill = box((0, 0.06, -height / 2), (width / 2 + 0.06, 0.08, 0.02), "smooth", COLOURS["white"])
    parts = [panel((0, 0, 0), width, height, "view"), sill]
    if rng.random() < 0.7:
        _, colour = pick(rng, COLOURS)
        parts += [
            box((side * (width / 2 + 0.14), 0.05, -0.05), (0.14, 0.04, height / 2 + 0.15),
                "cloth", colour)
            for side in (-1, 1)
        ]  # fmt: skip
    return Thing(name="window", parts=tuple(parts))


def door(rng: Random) -> Thing:
    _, colour = pick(rng, {**WOODS, "white": COLOURS["white"], "teal": COLOURS["teal"]})
    frame = [box((side * 0.5, 0.01, 1.03), (0.05, 0.04, 1.03), "wood", colour) for side in (-1, 1)]
    top = box((0, 0.01, 2.1), (0.55, 0.04, 0.05), "wood", colour)
    return Thing(
        name="door", parts=(panel((0, 0.01, 1.02), 0.92, 2.04, "door", colour), *frame, top)
    )
