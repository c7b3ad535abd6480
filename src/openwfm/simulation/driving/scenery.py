"""What stands beside the road: buildings, trees, lamp posts, traffic lights and stop signs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from openwfm.simulation.driving.quads import Quads, box, fan, lathe, merged, prism
from openwfm.simulation.driving.roads import KERB, LANE, Town
from openwfm.simulation.driving.surface import DRAWN, PAVEMENT, beside
from openwfm.simulation.driving.traffic import MAIN, Rules

NUM_FACADES, NUM_CROWNS = 5, 2
SIGHT = 120.0  # metres from the car's way within which anything is built
WINDOW, TILE_WINDOWS = 3.0, 4
SHADE = 0.012  # height of shadows on the ground


@dataclass(frozen=True)
class Yard:
    """``layers`` grow as things are built; ``way`` ``n 2`` is where the car is while filmed;
    ``sun`` is the ground shadow of a post of one metre, or None without shadows."""

    town: Town
    setting: str
    way: np.ndarray
    sun: tuple[float, float] | None
    layers: dict[str, list[Quads]] = field(default_factory=dict)

    def add(self, layer: str, quads: Quads) -> None:
        self.layers.setdefault(layer, []).append(quads)

    def free(self, points: np.ndarray, room: float) -> bool:
        """Whether ``points`` ``n 2`` are in sight and at least ``room`` metres off the asphalt."""
        if np.linalg.norm(points[:, None] - self.way, axis=-1).min() > SIGHT:
            return False
        return bool((self.town.asphalt_margin(points) < -room).all())

    def shadow(self, outline: np.ndarray, height: float) -> None:
        """Of a solid of one height over a convex ``outline`` ``n 2``."""
        if self.sun is not None:
            hull = _hull(np.concatenate([outline, outline + height * np.asarray(self.sun)]))
            ring = np.concatenate([hull, hull[:1]])
            self.add("shadow", fan(hull.mean(axis=0), ring, SHADE, 1.0))


def build(
    rng: np.random.Generator, town: Town, setting: str, rules: Rules, way: np.ndarray,
    sun: tuple[float, float] | None,
) -> dict[str, Quads]:  # fmt: skip
    """The upright layers by name, with the shadows that they throw."""
    yard = Yard(town, setting, way[::5], sun)
    for arm in town.arms:
        for side in (1, -1):
            _buildings(rng, yard, arm, side)
            _trees(rng, yard, arm, side)
            if setting != "country":
                _lamps(yard, arm, side, 32.0 if setting == "city" else 44.0)
    for arm in town.arms if town.junction else ():
        if rules.control == "lights":
            _traffic_light(yard, arm)
        elif rules.control == "stop_signs" and arm not in MAIN:
            _stop_sign(yard, arm)
    return {name: merged(*parts) for name, parts in yard.layers.items()}


def _hull(points: np.ndarray) -> np.ndarray:
    """Convex hull of points ``n 2``, counter-clockwise (Andrew's monotone chain)."""
    chain: list[np.ndarray] = []
    order = points[np.lexsort(points.T[::-1])]
    for way in (order, order[::-1]):
        half: list[np.ndarray] = []
        for point in way:
            while len(half) > 1:
                (ax, ay), (bx, by) = half[-1] - half[-2], point - half[-2]
                if ax * by - ay * bx > 1e-9:
                    break
                half.pop()
            half.append(point)
        chain += half[:-1]
    return np.stack(chain)


def _buildings(rng: np.random.Generator, yard: Yard, arm: str, side: int) -> None:
    gap, setback, share = {
        "city": ((0.5, 7), (1.0, 3.5), 0.94),
        "suburb": ((6, 16), (5, 10), 0.8),
        "country": ((40, 120), (12, 30), 0.6),
    }[yard.setting]
    distance = yard.town.stop_distance(arm) + rng.uniform(0, 8)
    while distance < DRAWN:
        if yard.setting == "city":
            width, depth, height = rng.uniform(12, 24), rng.uniform(10, 16), rng.uniform(9, 30)
        else:
            width, depth, height = rng.uniform(8, 14), rng.uniform(7, 10), rng.uniform(3.5, 6.5)
        back = yard.town.half_width(arm) + PAVEMENT + rng.uniform(*setback)
        chosen, facade = rng.random() < share, int(rng.integers(NUM_FACADES))
        if chosen:
            centre = distance + width / 2
            point, heading = beside(yard.town, arm, centre, side * (back + depth / 2))
            _house(yard, point, heading, (width, depth, height), facade)
        distance += width + rng.uniform(*gap)


def _house(
    yard: Yard, point: np.ndarray, yaw: float, size: tuple[float, float, float], facade: int
) -> None:
    """A block with a flat roof in the city, a house with a gable elsewhere."""
    width, depth, height = size
    x, y = float(point[0]), float(point[1])
    base = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, depth / 2)
    turn = np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]])
    outline = base @ turn + point
    if not yard.free(np.concatenate([outline, point[None]]), PAVEMENT + 0.4):
        return
    walls = box((-width / 2, -depth / 2, 0), (width / 2, depth / 2, height), tile=WINDOW)
    sides = Quads(walls.corners[:4], walls.uv[:4] / TILE_WINDOWS)
    yard.add(f"facade{facade}", sides.moved(x, y, yaw))
    if yard.setting == "city":
        edge = 0.25
        top = box((-width / 2 - edge, -depth / 2 - edge, height),
                  (width / 2 + edge, depth / 2 + edge, height + 0.6))  # fmt: skip
        yard.shadow(outline, min(height, 14.0))
    else:
        half, rise = depth / 2 + 0.5, 0.38 * depth
        gable = np.array([[-half, height - 0.2], [half, height - 0.2], [0.0, height + rise]])
        top = prism(gable, width / 2 + 0.4).moved(0, 0, math.pi / 2)
        yard.shadow(outline, height + rise / 2)
    yard.add("roof", top.moved(x, y, yaw))


def _trees(rng: np.random.Generator, yard: Yard, arm: str, side: int) -> None:
    gap = {"city": (18, 40), "suburb": (8, 26), "country": (8, 34)}[yard.setting]
    distance = yard.town.stop_distance(arm) + rng.uniform(2, 15)
    while distance < DRAWN:
        back = yard.town.half_width(arm)
        if yard.setting == "city":
            back += 1.9
        else:
            back += PAVEMENT + rng.uniform(1, 5 if yard.setting == "suburb" else 26)
        point, _ = beside(yard.town, arm, distance, side * back)
        size, kind = rng.uniform(0.8, 1.35), int(rng.integers(NUM_CROWNS))
        conifer = yard.setting != "city" and rng.random() < 0.35
        if yard.free(point[None], 1.5):
            _tree(yard, point, size, kind, conifer)
        distance += rng.uniform(*gap)


def _tree(yard: Yard, point: np.ndarray, size: float, kind: int, conifer: bool) -> None:
    x, y = float(point[0]), float(point[1])
    foot, top, radius = (0.8, 7.5, 1.7) if conifer else (1.9, 6.2, 2.1)
    trunk = lathe(size * np.array([[0.2, 0.0], [0.15, foot + 0.6]]), 4)
    rings = [[0.0, foot], [radius, foot + 0.2], [0.0, top]]
    if not conifer:
        rings = [[0.0, foot], [0.8 * radius, foot + 0.5], [radius, foot + 1.9],
                 [0.6 * radius, top - 0.6], [0.0, top]]  # fmt: skip
    yard.add("trunk", trunk.moved(x, y))
    yard.add(f"crown{kind}", lathe(size * np.array(rings), 7).moved(x, y, x + y))
    if yard.sun is not None:
        angle = np.linspace(0, 2 * math.pi, 9)[:-1]
        rim = size * radius * np.stack([np.cos(angle), np.sin(angle)], -1)
        low, high = size * foot, size * (top - 1.5)
        spots = [point + 0.8 * rim + height * np.asarray(yard.sun) for height in (low, high)]
        yard.shadow(np.concatenate(spots), 0.0)


def _lamps(yard: Yard, arm: str, side: int, every: float) -> None:
    """Posts at the kerb whose lamps hang over the road; the two sides are staggered."""
    start = yard.town.stop_distance(arm) + 4 + (every / 2 if side < 0 else 0)
    for distance in np.arange(start, DRAWN, every):
        offset = yard.town.half_width(arm) + 0.6
        point, heading = beside(yard.town, arm, float(distance), side * offset)
        if not yard.free(point[None], 0.3):
            continue
        x, y = float(point[0]), float(point[1])
        reach = -2.0 * side
        low, high = sorted((0.0, reach))
        bulb_low, bulb_high = sorted((0.7 * reach, reach))
        parts = [box((-0.08, -0.08, 0), (0.08, 0.08, 6.4)),
                 box((-0.06, low, 6.3), (0.06, high, 6.42))]  # fmt: skip
        yard.add("pole", merged(*parts).moved(x, y, heading))
        bulb = box((-0.16, bulb_low, 6.16), (0.16, bulb_high, 6.3), bottom=True)
        yard.add("lamp", bulb.moved(x, y, heading))


def _traffic_light(yard: Yard, arm: str) -> None:
    """Across the junction and at the stop line, facing the traffic that comes along ``arm``."""
    town = yard.town
    road = "main" if arm in MAIN else "side"
    stop = town.stop_distance(arm)
    near = (stop - 0.5, town.half_width(arm) + 0.6, 0.0)
    far = (-stop + 3.5, town.half_width(arm) + 0.6, -2.6)
    for distance, offset, reach in (near, far):
        # The arm's direction points at the driver; the left of it is the driver's right.
        point, yaw = beside(town, arm, 0.0, offset)
        ahead = np.array([math.cos(yaw), math.sin(yaw)])
        x, y = map(float, point + distance * ahead)
        height = 2.4 if reach == 0 else 4.6
        parts = [box((-0.09, -0.09, 0), (0.09, 0.09, height + 1.0))]
        if reach:
            parts.append(box((-0.06, reach, height + 0.9), (0.06, 0.0, height + 1.02)))
        housing = box((-0.12, reach - 0.24, height - 0.1), (0.06, reach + 0.24, height + 1.15))
        yard.add("pole", merged(*parts, housing).moved(x, y, yaw))
        for index, colour in enumerate(("green", "amber", "red")):
            low = height + 0.36 * index
            lens = box((0.06, reach - 0.16, low), (0.1, reach + 0.16, low + 0.32), bottom=True)
            yard.add(f"{colour}_{road}", lens.moved(x, y, yaw))


def _stop_sign(yard: Yard, arm: str) -> None:
    town = yard.town
    point, yaw = beside(town, arm, town.stop_distance(arm), town.lanes[arm] * LANE + KERB + 0.8)
    x, y = float(point[0]), float(point[1])
    yard.add("pole", box((-0.04, -0.04, 0), (0.04, 0.04, 2.3)).moved(x, y, yaw))
    angle = np.linspace(0, 2 * math.pi, 9)[:-1] + math.pi / 8
    face = np.stack([0.45 * np.cos(angle), 2.2 + 0.45 * np.sin(angle)], axis=-1)
    plate = prism(face, 0.03).moved(0.0, -0.07).moved(0.0, 0.0, math.pi / 2)
    yard.add("sign", plate.moved(x, y, yaw))
