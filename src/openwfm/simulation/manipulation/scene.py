"""What stands on the table in an episode, and what is to be done with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.bodies import COLOURS
from openwfm.simulation.manipulation.model import (
    CABINET,
    DRAWER_TRAVEL,
    HANDLE_REACH,
    MAX_BLOCKS,
)

TASKS = ("reach", "push", "pick_and_place", "open_drawer", "play")
MAX_DRAWS = 2000
MARK_RADIUS = 0.04
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A cube with sides of twice ``half`` metres; ``yaw`` in radians."""

    colour: str
    half: float
    spot: Point
    yaw: float

    @property
    def name(self) -> str:
        return f"{self.colour} block"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An episode's start. ``target`` is the block that the task is about.

    ``cup`` and ``mark`` are (colour, spot); ``cabinet`` is the spot of a chest whose drawer is
    open by ``drawer`` metres; None is absent. ``gripper`` is where the gripper starts, in metres.
    """

    task: str
    target: int
    blocks: tuple[Block, ...]
    gripper: tuple[float, float, float]
    opening: float
    cup: tuple[str, Point] | None = None
    mark: tuple[str, Point] | None = None
    cabinet: Point | None = None
    drawer: float = 0.0

    @property
    def cup_name(self) -> str:
        assert self.cup is not None
        return f"{self.cup[0]} cup"

    @property
    def mark_name(self) -> str:
        assert self.mark is not None
        return f"{self.mark[0]} mark"

    @property
    def object_names(self) -> list[str]:
        """Blocks, cup and drawer, as far as they are there, in the order of the state's arrays."""
        names = [block.name for block in self.blocks]
        names += [self.cup_name] if self.cup else []
        return names + (["drawer"] if self.cabinet else [])


def draw_scene(rng: np.random.Generator, task: str) -> Scene:
    """Draw scenes of a task until everything has room, and the gripper has room around it."""
    for _ in range(MAX_DRAWS):
        scene = _draw(rng, task)
        if _has_room(scene):
            return scene
    raise AssertionError(f"{task}: no scene with enough room in {MAX_DRAWS} draws")


def _draw(rng: np.random.Generator, task: str) -> Scene:
    colours = [str(name) for name in rng.permutation(list(COLOURS))]
    with_cup = task == "pick_and_place" or (task != "push" and rng.random() < 0.4)
    with_cabinet = task == "open_drawer" or rng.random() < 0.35
    ajar = with_cabinet and task != "open_drawer" and rng.random() < 0.4
    low = 2 if task == "play" else 1
    blocks = tuple(
        Block(
            colour=colours[i],
            half=float(rng.uniform(0.022, 0.027)),
            spot=_spot(rng, with_cabinet),
            yaw=float(rng.uniform(-math.pi / 4, math.pi / 4)),
        )
        for i in range(int(rng.integers(low, MAX_BLOCKS + 1 - with_cup)))
    )
    return Scene(
        task=task,
        target=0,
        blocks=blocks,
        gripper=_vector(rng.uniform((-0.14, -0.1, 0.17), (0.0, 0.1, 0.22))),
        opening=float(rng.choice([0.0, 0.5, 1.0])),
        cup=(colours[-1], _spot(rng, with_cabinet)) if with_cup else None,
        mark=(colours[-2], _spot(rng, with_cabinet)) if task == "push" else None,
        cabinet=(float(rng.uniform(-0.07, 0.07)), float(rng.uniform(0.23, 0.25)))
        if with_cabinet
        else None,
        drawer=float(rng.uniform(0.04, 0.9 * DRAWER_TRAVEL)) if ajar else 0.0,
    )


def _spot(rng: np.random.Generator, with_cabinet: bool) -> Point:
    y_high = 0.06 if with_cabinet else 0.18
    return float(rng.uniform(-0.16, 0.15)), float(rng.uniform(-0.2, y_high))


def _vector(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return (x, y, z)


def _has_room(scene: Scene) -> bool:
    spots = [np.array(block.spot) for block in scene.blocks]
    apart = all(np.linalg.norm(a - b) > 0.115 for i, a in enumerate(spots) for b in spots[i + 1 :])
    if scene.cup:
        apart &= all(np.linalg.norm(np.array(scene.cup[1]) - spot) > 0.15 for spot in spots)
        spots.append(np.array(scene.cup[1]))
    if scene.mark:
        apart &= _clear_lane(spots, np.array(scene.mark[1]))
    if scene.cabinet:
        apart &= all(_clear_of_drawer(scene.cabinet, spot) for spot in spots)
    return bool(apart)


def _clear_lane(spots: list[np.ndarray], mark: np.ndarray) -> bool:
    """Nothing stands near the way from 11 cm behind the first spot to the mark."""
    lane = mark - spots[0]
    length = float(np.linalg.norm(lane))
    if not 0.1 < length < 0.2:
        return False
    ahead = lane / length
    behind = spots[0] - 0.11 * ahead
    if not (np.abs(behind) < (0.2, 0.24)).all():
        return False
    for spot in spots[1:]:
        along = float(np.clip((spot - behind) @ ahead, 0, length + 0.11))
        if np.linalg.norm(spot - behind - along * ahead) < 0.11:
            return False
    return True


def _clear_of_drawer(cabinet: Point, spot: np.ndarray) -> bool:
    """Room for the drawer, its handle and the gripper in front of them."""
    x, front = cabinet[0], cabinet[1] - CABINET[1] - DRAWER_TRAVEL - HANDLE_REACH
    return abs(spot[0] - x) > CABINET[0] + 0.07 or spot[1] < front - 0.09
