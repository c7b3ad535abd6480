"""The eight scenarios: each draws scenes, as many as there are random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from openwfm.simulation.bodies import Vector, half_extents
from openwfm.simulation.physics.drawing import LYING, ROUND, Draw, apart
from openwfm.simulation.physics.piles import dominoes, stable_stack, unstable_stack
from openwfm.simulation.physics.scene import (
    EARTH,
    Fixture,
    Piece,
    Plank,
    Scene,
    Wheel,
    compose,
    turn,
    vector,
)

TROUGH_FACETS, TROUGH_ANGLE = 28, math.radians(72)


def free_fall(rng: np.random.Generator) -> Scene:
    """One to five bodies of any shape fall from rest, turning slowly, and may bounce."""
    draw = Draw(rng)
    count = draw.count(1, 5)
    turned = draw.between(0, 2 * math.pi)
    pieces = []
    for index in range(count):
        angle = turned + 2 * math.pi * index / count
        radius = 0.0 if count == 1 else draw.between(0.22, 0.34)
        shape = draw.shape()
        place = (radius * math.cos(angle), radius * math.sin(angle), draw.between(0.45, 1.05))
        pieces.append(
            draw.piece(
                shape,
                draw.size(shape, 0.085, 0.14),
                place,
                rotation=draw.rotation(),
                spin=vector(draw.between(0, 3) * np.asarray(draw.direction())),
                bounce=draw.between(0.1, 0.75),
                support=(0.0, 0.0, 0.0),
                along=(0.0, 0.0, 1.0),
            )
        )
    if not apart(pieces):
        return free_fall(rng)
    return Scene(
        scenario="free_fall",
        low=(-0.42, -0.42, 0.0),
        high=(0.42, 0.42, 1.1),
        elevation=(12, 28),
        pieces=tuple(pieces),
    )


def tilted_plane(rng: np.random.Generator) -> Scene:
    """Bodies on a slope: round ones roll, the others slide if friction is below tan(angle)."""
    draw = Draw(rng)
    angle = math.radians(draw.between(12, 32))
    count = draw.count(1, 3)
    lanes = rng.permutation([0.0, -0.24, 0.24])[:count] if count > 1 else [0.0]
    pieces = []
    for lane in lanes:
        shape = draw.shape(("box", "box", "sphere", "cylinder", "capsule"))
        lies = shape != "box"
        # Half of the boxes and standing cylinders hold, well away from the threshold.
        slips = draw.between(0.1, 0.75) if draw.chance(0.55) else draw.between(1.3, 1.8)
        friction = None if lies else math.tan(angle) * slips
        low, high = (0.07, 0.08) if shape == "capsule" else (0.075, 0.105)
        size = draw.size(shape, low, high)
        pieces.append(on_slope(draw, shape, size, angle, draw.between(-0.38, -0.2), lane, friction))
    return Scene(
        scenario="tilted_plane",
        low=(-0.55, -0.36, 0.0),
        high=(0.7, 0.36, 0.45),
        elevation=(38, 48),
        pieces=tuple(pieces),
        fixtures=slope(angle),
        facts={"angle_degrees": math.degrees(angle)},
    )


def slope(angle: float, half: Vector = (0.55, 0.36, 0.02)) -> tuple[Fixture, ...]:
    """A board that falls towards +x, its lower edge on the floor, and the post that holds it."""
    height = half[0] * math.sin(angle) + half[2] * math.cos(angle)
    upper = 2 * half[0] * math.sin(angle)
    post = (0.02, 0.8 * half[1], upper / 2 - 0.005)
    at = (-half[0] * math.cos(angle) + 0.03, 0.0, post[2])
    return (
        Fixture(
            name="ramp", shape="box", size=half, position=(0.0, 0.0, height),
            rotation=turn((0, 1, 0), angle),
        ),
        Fixture(name="ramp", shape="box", size=post, position=at, solid=False),
    )  # fmt: skip


def on_slope(
    draw: Draw,
    shape: str,
    size: Vector,
    angle: float,
    along: float,
    lane: float,
    friction: float | None,
) -> Piece:
    """A piece at ``along`` metres down from the middle of the slope, resting on it."""
    lies = shape in ("cylinder", "capsule")
    tilt = turn((0, 1, 0), angle)
    down = np.array([math.cos(angle), 0.0, -math.sin(angle)])
    normal = np.array([math.sin(angle), 0.0, math.cos(angle)])
    reach = size[0] if shape != "box" else size[2]
    height = 0.55 * math.sin(angle) + 0.02 * math.cos(angle)
    place = along * down + (0.02 + reach) * normal + [0.0, lane, height]
    return draw.piece(
        shape,
        size,
        vector(place),
        rotation=compose(tilt, LYING) if lies else tilt,
        friction=friction,
        support=vector(normal),
        along=vector(down),
    )


def u_ramp(rng: np.random.Generator) -> Scene:
    """Round bodies let go on the sides of a trough, each in a lane or towards one another."""
    draw = Draw(rng)
    radius, width = draw.between(0.48, 0.6), 0.36
    count = draw.count(1, 3)
    lanes = [0.0] if count == 1 else [-0.16, 0.16] if count == 2 else [-0.24, 0.0, 0.24]
    meeting = count == 2 and draw.chance(0.4)
    side = draw.sign()
    pieces = []
    for index, lane in enumerate(lanes):
        shape = draw.shape(ROUND)
        size = draw.size(shape, 0.07, 0.095) if shape == "sphere" else (0.08, 0.06, 0.0)
        if shape == "capsule":
            size = (0.07, 0.035, 0.0)
        direction = -side if meeting and index else side if meeting else draw.sign()
        angle = direction * draw.between(0.55, 1.05)
        normal = np.array([-math.sin(angle), 0.0, math.cos(angle)])
        place = (
            np.array([0.0, 0.0 if meeting else lane, radius + 0.02]) - (radius - size[0]) * normal
        )
        pieces.append(
            draw.piece(
                shape,
                size,
                vector(place),
                rotation=compose(turn((0, 1, 0), -angle), LYING),
                bounce=0.3 if meeting else 0.0,
                support=vector(normal),
                along=(0.0, 0.4, 0.0),
            )
        )
    across, rim = radius * math.sin(TROUGH_ANGLE), radius * (1 - math.cos(TROUGH_ANGLE))
    return Scene(
        scenario="u_ramp",
        low=(-across, -width, 0.0),
        high=(across, width, rim),
        elevation=(44, 56),
        pieces=tuple(pieces),
        fixtures=trough(radius, width),
        facts={"radius_m": radius},
    )


def trough(radius: float, half_width: float, thickness: float = 0.02) -> tuple[Fixture, ...]:
    """The inside of a cylinder along y, from -72 to 72 degrees, of 28 flat boards (5 degrees
    apart: a rolling body loses under one percent of its energy at each edge)."""
    step = 2 * TROUGH_ANGLE / TROUGH_FACETS
    board = (radius * math.tan(step / 2) + 0.002, half_width, thickness / 2)
    boards = []
    for index in range(TROUGH_FACETS):
        angle = (index + 0.5) * step - TROUGH_ANGLE
        far = radius + thickness / 2
        place = (far * math.sin(angle), 0.0, radius + 0.02 - far * math.cos(angle))
        rotation = turn((0, 1, 0), -angle)
        boards.append(
            Fixture(name="ramp", shape="box", size=board, position=place, rotation=rotation)
        )
    return tuple(boards)


def seesaw(rng: np.random.Generator) -> Scene:
    """A level board with something at each end, alike or not, or with something falling on it."""
    draw = Draw(rng)
    half = (draw.between(0.42, 0.52), 0.13, 0.015)
    height = draw.between(0.14, 0.2)
    top = height + half[2]
    plank = Plank(half=half, height=height, mass=draw.between(1.0, 2.0))
    kind = str(rng.choice(["unequal", "unequal", "balanced", "drop"]))
    side, mass = draw.sign(), draw.between(0.8, 2.5)
    pieces = []
    for end in (side, -side):
        shape = draw.shape(("box", "cylinder"))
        size = draw.size(shape, 0.06, 0.085)
        tall = half_extents(shape, size)[2]
        drop = draw.between(0.3, 0.5) if kind == "drop" and end == -side else 0.0
        arm = half[0] - 0.1
        weight = mass * (1.0 if kind == "balanced" or end == side else draw.between(1.8, 4.0))
        pieces.append(
            draw.piece(
                shape,
                size,
                (end * arm, 0.0, top + tall + drop),
                mass=weight,
                friction=draw.between(0.5, 0.9),
                support=(0.0, 0.0, 0.0) if drop else (0.0, 0.0, 1.0),
            )
        )
    edge = (height - half[2]) / math.sqrt(2)
    fulcrum = Fixture(
        name="fulcrum", shape="box", size=(edge, 0.1, edge), position=(0.0, 0.0, 0.0),
        rotation=turn((0, 1, 0), math.pi / 4), solid=False,
    )  # fmt: skip
    return Scene(
        scenario="seesaw",
        low=(-half[0], -0.2, 0.0),
        high=(half[0], 0.2, 0.75 if kind == "drop" else 0.45),
        elevation=(10, 26),
        pieces=tuple(pieces),
        fixtures=(fulcrum,),
        plank=plank,
        facts={"kind": kind, "board_mass_kg": plank.mass},
    )


def gyroscope(rng: np.random.Generator) -> Scene:
    """A wheel that spins at the end of an axle, held at the other end by a stand."""
    draw = Draw(rng)
    radius, arm = draw.between(0.12, 0.17), draw.between(0.1, 0.16)
    half_width, height = draw.between(0.015, 0.025), draw.between(0.3, 0.38)
    # Slow enough to be followed, fast enough to be steady.
    rate = draw.sign() * draw.between(1.2, 3.2)
    wheel = Wheel(
        radius=radius,
        half_width=half_width,
        arm=arm,
        mass=draw.between(0.5, 2.0),
        spin=EARTH * arm / (0.5 * radius**2 * rate),
        height=height,
        azimuth=draw.between(0, 2 * math.pi),
        tilt=draw.between(-0.12, 0.3),
        colour=draw.colour(),
        pattern=draw.shape(("checks", "halves", "stripes")),
    )
    pieces = []
    if draw.chance(0.4):
        angle, shape = draw.between(0, 2 * math.pi), draw.shape(("box", "cylinder"))
        size = draw.size(shape, 0.06, 0.08)
        place = (0.42 * math.cos(angle), 0.42 * math.sin(angle), half_extents(shape, size)[2])
        pieces.append(draw.piece(shape, size, place))
    far = 0.5 if pieces else 0.32
    stand = (
        ("cylinder", (0.018, (height - 0.02) / 2, 0.0), (0.0, 0.0, (height - 0.02) / 2)),
        ("cylinder", (0.1, 0.012, 0.0), (0.0, 0.0, 0.012)),
        ("sphere", (0.026, 0.0, 0.0), (0.0, 0.0, height)),
    )
    return Scene(
        scenario="gyroscope",
        low=(-far, -far, 0.0),
        high=(far, far, height + radius),
        elevation=(16, 34),
        pieces=tuple(pieces),
        fixtures=tuple(
            Fixture(name="stand", shape=shape, size=size, position=place, solid=False)
            for shape, size, place in stand
        ),
        wheel=wheel,
        facts={"spin_rad_s": wheel.spin, "wheel_mass_kg": wheel.mass},
    )


DRAWS: dict[str, Callable[[np.random.Generator], Scene]] = {
    "free_fall": free_fall,
    "tilted_plane": tilted_plane,
    "u_ramp": u_ramp,
    "stable_stack": stable_stack,
    "unstable_stack": unstable_stack,
    "dominoes": dominoes,
    "seesaw": seesaw,
    "gyroscope": gyroscope,
}
