"""Groups: one to four equal bodies of one colour, apart from each other, as a camera sees them.

Captions name colour and number first, so a prompt can be checked against the frames that it made
(`openwfm.evaluation.obedience`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from openwfm.simulation.bodies import NOUNS, Body
from openwfm.simulation.camera import CameraPath
from openwfm.simulation.captions import article, direction
from openwfm.simulation.looks import Look
from openwfm.simulation.scenarios import Scene

NUMBERS = ("one", "two", "three", "four")
# The colours whose hues lie farthest apart, and from those of tables.
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
SHAPES = ("sphere", "box", "cylinder")
RADIUS = 1.85  # of the disc about the middle of the table where bodies start, metres
APART = 1.75  # between centres: a body's width and, at 64 pixels, three pixels of table
STEEP = (-62.0, -48.0)  # degrees: no body hides another


def draw_group(rng: np.random.Generator) -> Scene:
    """Number, colour and shape are independent; balls roll as often as they rest, side by side."""
    count, colour = int(rng.integers(1, len(NUMBERS) + 1)), str(rng.choice(COLOURS))
    shape = str(rng.choice(SHAPES))
    size = {"sphere": (0.48, 0.0, 0.0), "box": (0.4, 0.4, 0.36), "cylinder": (0.45, 0.4, 0.0)}
    rolls = shape == "sphere" and rng.random() < 0.5
    speed, heading = rng.uniform(0.5, 0.8) * rolls, rng.uniform(0, 2 * math.pi)
    ahead, across = math.cos(heading), math.sin(heading)
    height = size[shape][1 if shape == "cylinder" else 2] or size[shape][0]
    bodies = tuple(
        Body(
            shape=shape,
            size=size[shape],
            colour=colour,
            position=(float(x), float(y), height),
            velocity=(speed * ahead, speed * across, 0.0),
            spin=(-speed / height * across, speed / height * ahead, 0.0),
            friction=0.4,
        )
        for x, y in _spots(rng, count)
    )
    return Scene(bodies=bodies)


def _spots(rng: np.random.Generator, count: int) -> np.ndarray:
    """``n 2`` metres. Whole layouts are drawn anew, so that every number fills the same disc."""
    while True:
        angle, radius = rng.uniform(0, 2 * math.pi, count), RADIUS * rng.random(count) ** 0.5
        spots = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1) + 9 * np.eye(count)
        if gaps.min() > APART:
            return spots


def from_above(camera: CameraPath, rng: np.random.Generator) -> CameraPath:
    """The same path from so steep that no body hides another."""
    return replace(camera, start=replace(camera.start, elevation=float(rng.uniform(*STEEP))))


def describe_group(scene: Scene, look: Look, camera: CameraPath, rng: np.random.Generator) -> str:
    """ "Two red balls roll to the left on a plain grey table; the camera is still."; ``rng``
    chooses the wording."""
    first, several = scene.bodies[0], len(scene.bodies) > 1
    noun = f"{NUMBERS[len(scene.bodies) - 1]} {first.name}"
    if several:
        noun += "es" if NOUNS[first.shape] == "box" else "s"
    if any(first.velocity):
        towards = direction(np.asarray(first.velocity), camera.start)
        action = f"{noun} {'roll' if several else 'rolls'} {towards}"
    else:
        action = f"{noun} {'stand' if several else 'stands'} still"
    table = article(look.table_name)
    if rng.random() < 0.5:
        sentence = f"{action} on {table}; {camera.sentence()}"
    else:
        sentence = f"on {table}, {action}; {camera.sentence()}"
    return sentence[0].upper() + sentence[1:] + "."
