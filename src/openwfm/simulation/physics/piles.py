"""Things that stand on or near one another: stacks and rows of dominoes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openwfm.simulation.bodies import AT_REST, Quaternion, Vector, half_extents
from openwfm.simulation.physics.drawing import Draw
from openwfm.simulation.physics.scene import Piece, Scene, compose, rotate, turn, vector

# Of the half width of what carries: how far inside or outside of its edge the weight must be.
INSIDE, OUTSIDE = 0.25, 0.15


def stable_stack(rng: np.random.Generator) -> Scene:
    """Three to five storeys that stay; sometimes the last arrives from a few centimetres above."""
    draw = Draw(rng)
    count = draw.count(3, 5)
    pieces = _storeys(draw, count, slack=0.3)
    while overhang(pieces) > -INSIDE:
        pieces = _storeys(draw, count, slack=0.3)
    if draw.chance(0.5):
        pieces[-1] = _lifted(pieces[-1], draw.between(0.04, 0.1))
    return _stack("stable_stack", pieces)


def unstable_stack(rng: np.random.Generator) -> Scene:
    """Two to five storeys, one of which carries a weight that is beyond its edge."""
    draw = Draw(rng)
    count = draw.count(2, 5)
    pieces = _storeys(draw, count, slack=1.5)
    while not OUTSIDE < overhang(pieces) < 0.9:
        pieces = _storeys(draw, count, slack=1.5)
    return _stack("unstable_stack", pieces)


def overhang(pieces: Sequence[Piece]) -> float:
    """How far the centre of what rests on a storey lies beyond that storey's edge, as a share of
    its half width; the largest of all storeys. Below zero, the stack stands.

    A storey is taken to be carried by its lower neighbour's whole top or its own whole bottom,
    whichever is smaller, without turning about z.
    """
    worst = -math.inf
    for level in range(1, len(pieces)):
        above = pieces[level:]
        masses = np.array([piece.mass for piece in above])
        places = np.array([piece.body.position[:2] for piece in above])
        centre = masses @ places / masses.sum()
        below, own = pieces[level - 1].body, pieces[level].body
        for carrier in (below, own):
            radius = carrier.size[0]
            offset = np.abs(centre - carrier.position[:2])
            if carrier.shape == "cylinder":
                reach = float(np.hypot(*offset))
            else:
                reach = float(offset.max())
            worst = max(worst, reach / radius - 1)
    return worst


def _storeys(draw: Draw, count: int, slack: float) -> list[Piece]:
    """Square boxes and upright cylinders, each off the one below by up to ``slack`` half widths."""
    pieces: list[Piece] = []
    x, y, top, below = 0.0, 0.0, 0.0, 0.0
    for level in range(count):
        shape = draw.shape(("box", "box", "cylinder"))
        width, half = draw.between(0.085, 0.125), draw.between(0.05, 0.085)
        if level:
            # Off along one axis: the edge that carries is then a straight one.
            shift = draw.between(-slack, slack) * min(width, below)
            x, y = (x + shift, y) if draw.chance(0.5) else (x, y + shift)
        size = (width, width, half) if shape == "box" else (width, half, 0.0)
        friction = draw.between(0.5, 0.9)
        pieces.append(draw.piece(shape, size, (x, y, top + half), friction=friction))
        top, below = top + 2 * half, width
    return pieces


def _lifted(piece: Piece, up: float) -> Piece:
    x, y, z = piece.body.position
    return replace(piece, body=replace(piece.body, position=(x, y, z + up)), support=AT_REST)


def _stack(scenario: str, pieces: list[Piece]) -> Scene:
    places = np.array([piece.body.position for piece in pieces])
    last = pieces[-1].body
    top = float(places[-1, 2] + half_extents(last.shape, last.size)[2])
    reach = float(np.abs(places[:, :2]).max()) + 0.18 + (0.12 if "un" in scenario else 0)
    return Scene(
        scenario=scenario,
        low=(-reach, -reach, 0.0),
        high=(reach, reach, top),
        elevation=(10, 28),
        pieces=tuple(pieces),
        facts={"overhang": overhang(pieces)},
    )


def dominoes(rng: np.random.Generator) -> Scene:
    """A row of four to eight; a ball rolls into the first, or the first is already leaning."""
    draw = Draw(rng)
    count = draw.count(4, 8)
    half = (0.018, draw.between(0.055, 0.075), draw.between(0.105, 0.13))
    gap = 2 * half[2] * draw.between(0.5, 0.85 if count < 7 else 0.6)
    bend = draw.sign() * draw.between(0.0, 0.12)
    start = -gap * (count - 1) / 2
    pushed = draw.chance(0.6)
    pieces = []
    friction, mass = draw.between(0.35, 0.6), draw.between(0.3, 0.9)
    for index in range(count):
        along = start + gap * index
        place = (along, bend * (along / start) ** 2 - bend, half[2])
        heading = math.atan2(2 * bend * along / start**2, 1.0)
        rotation = turn((0, 0, 1), heading)
        if index == 0 and not pushed:
            place, rotation = _leaning(half, place, heading)
        pieces.append(
            draw.piece(
                "box", half, place, rotation=rotation, friction=friction, mass=mass,
                along=(0.0, 1.0, 0.0), noun="domino",
            )
        )  # fmt: skip
    if pushed:
        ball, speed = draw.between(0.06, 0.08), draw.between(0.7, 1.4)
        place = (start - draw.between(0.18, 0.3) - ball, pieces[0].body.position[1], ball)
        pieces.append(
            draw.piece(
                "sphere", (ball, 0.0, 0.0), place, velocity=(speed, 0.0, 0.0),
                spin=(0.0, speed / ball, 0.0), mass=draw.between(0.6, 1.5), bounce=0.2,
            )
        )  # fmt: skip
    reach = -start + 0.2
    return Scene(
        scenario="dominoes",
        low=(-reach - (0.2 if pushed else 0.0), -0.15, 0.0),
        high=(reach, 0.15, 2 * half[2]),
        elevation=(22, 38),
        pieces=tuple(pieces),
        facts={"num_dominoes": count, "gap_m": gap},
    )


def _leaning(half: Vector, foot: Vector, heading: float) -> tuple[Vector, Quaternion]:
    """Position and rotation of a domino that stood over ``foot``, turned about its front edge a
    little further than it can stand."""
    lean = 1.35 * math.atan(half[0] / half[2])
    yaw = turn((0, 0, 1), heading)
    rotation = compose(yaw, turn((0, 1, 0), lean))
    edge = np.asarray(foot) + rotate(yaw, (half[0], 0.0, -half[2]))
    return vector(edge + rotate(rotation, (-half[0], 0.0, half[2]))), rotation
