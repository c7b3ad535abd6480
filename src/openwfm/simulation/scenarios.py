"""What happens in a shot: bodies that fall, roll, collide, stack or get pushed.

Lengths are metres on a table that reaches from -HALF_TABLE to HALF_TABLE in x and y. Bodies are
about a metre wide and gravity is half of the earth's, so that at 64 pixels a body is at least
eight pixels wide and moves 0.3 to 2 pixels a frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from openwfm.simulation.bodies import (
    COLOURS,
    Body,
    Quaternion,
    Vector,
    half_extents,
    world_half_extents,
)

HALF_TABLE = 3.0
MAX_BODIES = 5
MAX_DRAWS = 1000
FLAT_SHAPES = ("box", "cylinder")
ROUND_SHAPES = ("sphere", "cylinder", "capsule", "ellipsoid")


@dataclass(frozen=True, kw_only=True)
class Paddle:
    """An upright board that moves at a constant ``velocity`` and stops after ``seconds``."""

    start: Vector
    velocity: Vector
    seconds: float
    yaw: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    bodies: tuple[Body, ...]
    height: float = 0.0
    paddle: Paddle | None = None


def fall(rng: np.random.Generator) -> Scene:
    """Bodies drop one after the other: each starts about a metre above the one before."""
    colours = _colours(rng)
    bodies = []
    count = int(rng.integers(3, MAX_BODIES + 1))
    turn = rng.uniform(0, 2 * math.pi)
    for index in range(count):
        angle = turn + 2 * math.pi * index / count + rng.uniform(-0.3, 0.3)
        radius = rng.uniform(0.7, 1.5)
        drift = rng.uniform(0.1, 0.6) * np.array([-math.sin(angle), math.cos(angle)])
        shape = _shape(rng)
        bodies.append(
            Body(
                shape=shape,
                size=_size(rng, shape),
                colour=colours[index],
                position=(
                    radius * math.cos(angle),
                    radius * math.sin(angle),
                    1.0 + 0.75 * index + rng.uniform(0, 0.4),
                ),
                rotation=_random_rotation(rng),
                velocity=(float(drift[0]), float(drift[1]), rng.uniform(0.3, 1.6)),
                spin=_vector(rng.uniform(-1.6, 1.6, 3)),
                friction=0.15,
                bounce=rng.uniform(0.35, 0.65),
            )
        )
    return Scene(bodies=tuple(bodies), height=0.7)


def roll(rng: np.random.Generator) -> Scene:
    """Round bodies cross the table on parallel lanes, in either direction."""
    colours = _colours(rng)
    heading = rng.uniform(0, 2 * math.pi)
    lanes = rng.permutation(np.array([-1.5, 0.0, 1.5]) + rng.uniform(-0.15, 0.15))
    bodies = []
    for index in range(int(rng.integers(2, 4))):
        ahead = float(rng.choice([-1, 1]))
        shape = str(rng.choice(["sphere", "sphere", "cylinder", "capsule"]))
        start = _on_table(heading, -ahead * rng.uniform(1.2, 2.1), lanes[index])
        speed = ahead * rng.uniform(0.9, 1.8)
        bodies.append(_rolling(rng, shape, colours[index], start, heading, speed))
    if rng.random() < 0.5:
        spot = _on_table(heading, rng.uniform(-0.2, 0.2), lanes[0])
        bodies.append(_standing(rng, "box", colours[len(bodies)], spot, friction=0.1))
    return Scene(bodies=tuple(bodies))


def collide(rng: np.random.Generator) -> Scene:
    """Two bodies meet head on, or one runs into a waiting group."""
    colours = _colours(rng)
    heading = rng.uniform(0, 2 * math.pi)
    left = _on_table(heading, -rng.uniform(1.6, 2.1), rng.uniform(-0.15, 0.15))
    right = _on_table(heading, rng.uniform(1.6, 2.1), rng.uniform(-0.15, 0.15))
    bodies = [_moving(rng, colours[0], left, heading, rng.uniform(1.3, 2.1))]
    if rng.random() < 0.6:
        bodies.append(_moving(rng, colours[1], right, heading, -rng.uniform(1.3, 2.1)))
        if rng.random() < 0.6:
            side = float(rng.choice([-1, 1])) * rng.uniform(1.7, 2.0)
            start = _on_table(heading, 0.0, side)
            speed = -math.copysign(rng.uniform(0.5, 0.9), side)
            bodies.append(_moving(rng, colours[2], start, heading + math.pi / 2, speed))
    else:
        for index, across in enumerate((-0.75, 0.75, 0.0)[: int(rng.integers(2, 4))], start=1):
            spot = _on_table(heading, 0.3 if across else 1.5, across)
            shape = str(rng.choice(["box", "sphere", "cylinder"]))
            bodies.append(_standing(rng, shape, colours[index], spot, friction=0.08))
    return Scene(bodies=tuple(bodies))


def stack(rng: np.random.Generator) -> Scene:
    """A tower that a fast ball hits, or whose upper storeys arrive by falling."""
    colours = _colours(rng)
    heading = rng.uniform(0, 2 * math.pi)
    storeys = int(rng.integers(2, 4))
    hit = rng.random() < 0.6
    yaw = _turn((0, 0, 1), rng.uniform(0, math.pi))
    base = np.asarray(_on_table(heading, rng.uniform(0.0, 0.6), 0.0))
    bodies, top = [], 0.0
    for index in range(storeys):
        shape = str(rng.choice(FLAT_SHAPES))
        width, half = rng.uniform(0.36, 0.46), rng.uniform(0.36, 0.44)
        size = (width, width, half) if shape == "box" else (width, half, 0.0)
        gap = 0.0 if hit else index * rng.uniform(0.55, 0.85)
        shift = rng.uniform(-0.06, 0.06, 2) if hit else rng.uniform(-0.28, 0.28, 2)
        x, y = base + (shift if index else 0)
        bodies.append(
            Body(
                shape=shape,
                size=size,
                colour=colours[index],
                position=(float(x), float(y), top + half + gap),
                rotation=yaw,
                velocity=(0.0, 0.0, 0.0 if hit or not index else 0.6 * index),
                friction=0.3,
                bounce=0.05,
            )
        )
        top += 2 * half + gap
    start = _on_table(heading, -rng.uniform(2.0, 2.3), rng.uniform(-0.25, 0.25))
    speed = rng.uniform(2.8, 3.6) if hit else rng.uniform(0.7, 1.1)
    lane = heading if hit else heading + math.pi / 2 * float(rng.choice([-1, 1]))
    bodies.append(_rolling(rng, "sphere", colours[storeys], start, lane, speed, heavy=hit))
    return Scene(bodies=tuple(bodies), height=0.3)


def push(rng: np.random.Generator) -> Scene:
    """A grey board sweeps across the table and shoves what stands in its way."""
    colours = _colours(rng)
    heading = rng.integers(4) * math.pi / 2 + rng.uniform(-0.25, 0.25)
    speed = rng.uniform(0.9, 1.4)
    ahead, across = math.cos(heading), math.sin(heading)
    start = _on_table(heading, -2.5, 0.0)
    bodies = []
    for index, lane in enumerate(rng.permutation([-1.2, 0.0, 1.2])[: int(rng.integers(2, 4))]):
        spot = _on_table(heading, rng.uniform(-1.5, -0.3), lane + rng.uniform(-0.1, 0.1))
        bodies.append(_standing(rng, _shape(rng), colours[index], spot, friction=0.12))
    paddle = Paddle(
        start=(start[0], start[1], 0.42),
        velocity=(speed * ahead, speed * across, 0.0),
        seconds=3.4 / speed,
        yaw=heading,
    )
    return Scene(bodies=tuple(bodies), paddle=paddle)


SCENARIOS: dict[str, Callable[[np.random.Generator], Scene]] = {
    "fall": fall,
    "roll": roll,
    "collide": collide,
    "stack": stack,
    "push": push,
}


def draw_scene(rng: np.random.Generator, scenario: str) -> Scene:
    """Draw scenes of a scenario until one has room for all its bodies."""
    for _ in range(MAX_DRAWS):
        scene = SCENARIOS[scenario](rng)
        if _has_room(scene.bodies):
            return scene
    raise AssertionError(f"{scenario}: no scene without overlaps in {MAX_DRAWS} draws")


def _has_room(bodies: tuple[Body, ...]) -> bool:
    """No bounding box reaches through the walls, or into another, by more than a centimetre.

    Overlapping bodies fly apart at ten metres a second.
    """
    centres = np.array([body.position for body in bodies])
    halves = np.array([world_half_extents(body) for body in bodies])
    if np.any(np.abs(centres[:, :2]) + halves[:, :2] > HALF_TABLE):
        return False
    gaps = np.abs(centres[:, None] - centres[None]) - (halves[:, None] + halves[None])
    overlaps = np.all(gaps < -0.01, axis=-1)
    return not np.any(np.triu(overlaps, k=1))


def _colours(rng: np.random.Generator) -> list[str]:
    return [str(name) for name in rng.permutation(list(COLOURS))]


def _shape(rng: np.random.Generator) -> str:
    return str(rng.choice(["sphere", "box", "cylinder", "capsule", "ellipsoid"]))


def _size(rng: np.random.Generator, shape: str) -> Vector:
    if shape == "sphere":
        return (rng.uniform(0.42, 0.58), 0.0, 0.0)
    if shape == "cylinder":
        return (rng.uniform(0.40, 0.52), rng.uniform(0.32, 0.50), 0.0)
    if shape == "capsule":
        return (rng.uniform(0.34, 0.42), rng.uniform(0.30, 0.48), 0.0)
    if shape == "ellipsoid":
        return (rng.uniform(0.38, 0.45), rng.uniform(0.38, 0.45), rng.uniform(0.55, 0.70))
    return (rng.uniform(0.36, 0.52), rng.uniform(0.36, 0.52), rng.uniform(0.34, 0.50))


def _on_table(heading: float, ahead: float, across: float) -> tuple[float, float]:
    """The point at (ahead, across) in axes that are turned by ``heading``."""
    cosine, sine = math.cos(heading), math.sin(heading)
    return ahead * cosine - across * sine, ahead * sine + across * cosine


def _turn(axis: tuple[float, float, float], angle: float) -> Quaternion:
    half = math.sin(angle / 2)
    return (math.cos(angle / 2), axis[0] * half, axis[1] * half, axis[2] * half)


def _random_rotation(rng: np.random.Generator) -> Quaternion:
    w, x, y, z = rng.normal(size=4)
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    return (w / norm, x / norm, y / norm, z / norm)


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return (x, y, z)


def _rolling(
    rng: np.random.Generator,
    shape: str,
    colour: str,
    start: tuple[float, float],
    heading: float,
    speed: float,
    heavy: bool = False,
) -> Body:
    """A round body that rolls without slipping along ``heading``."""
    size = (0.62, 0.0, 0.0) if heavy else _size(rng, shape)
    ahead, across = math.cos(heading), math.sin(heading)
    # A quarter turn about the heading lays the body's own z axis, the axle, across the lane.
    lying = _turn((ahead, across, 0.0), math.pi / 2)
    return Body(
        shape=shape,
        size=size,
        colour=colour,
        position=(start[0], start[1], size[0]),
        rotation=lying,
        velocity=(speed * ahead, speed * across, 0.0),
        spin=(-speed / size[0] * across, speed / size[0] * ahead, 0.0),
        friction=0.4,
        bounce=0.75,
        density=300.0 if heavy else 100.0,
    )


def _moving(
    rng: np.random.Generator, colour: str, start: tuple[float, float], heading: float, speed: float
) -> Body:
    """A body that rolls if it is round, else slides on a slippery table."""
    shape = str(rng.choice(["sphere", "sphere", "cylinder", "box", "box"]))
    if shape != "box":
        return _rolling(rng, shape, colour, start, heading, speed)
    body = _standing(rng, shape, colour, start, friction=0.04)
    velocity = (speed * math.cos(heading), speed * math.sin(heading), 0.0)
    return replace(body, velocity=velocity, bounce=0.75)


def _standing(
    rng: np.random.Generator, shape: str, colour: str, spot: tuple[float, float], friction: float
) -> Body:
    size = _size(rng, shape)
    return Body(
        shape=shape,
        size=size,
        colour=colour,
        position=(spot[0], spot[1], half_extents(shape, size)[2]),
        rotation=_turn((0, 0, 1), rng.uniform(0, math.pi)),
        friction=friction,
        bounce=0.4,
    )
