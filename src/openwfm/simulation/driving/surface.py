"""What lies flat: asphalt, pavements, painted lines, and the ground around."""

from __future__ import annotations

import math

import numpy as np

from openwfm.simulation.driving.quads import EMPTY, Quads, fan, flat, merged, ribbon
from openwfm.simulation.driving.roads import CORNER, LANE, Town

PAVEMENT = 2.6
DRAWN, SPACING = 420.0, 5.0  # metres of every arm that are drawn, and between its samples
GROUND, ROAD, PAINT = -0.02, 0.0, 0.006  # heights
ASPHALT_TILE, GROUND_TILE = 6.0, 24.0
LINE, DASH, DASH_EVERY = 0.15, 3.0, 9.0


def lay(town: Town, setting: str, yellow: bool) -> dict[str, Quads]:
    """The flat layers of a town by name; ``yellow`` paints the middle of the road so."""
    side = 900.0
    square = np.array([[[-side, -side], [side, -side], [side, side], [-side, side]]])
    layers = {
        "ground": flat(square, GROUND, GROUND_TILE),
        "asphalt": merged(*_asphalt(town)),
        "pavement": merged(*_pavements(town)) if setting != "country" else EMPTY,
    }
    middle, white = [], []
    for arm in town.arms:
        start = town.stop_distance(arm) if town.junction else 0.0
        middle += _middle(town, arm, start, yellow)
        white += _lines(town, arm, start, edges=setting != "city")
        if town.junction:
            white += _junction_paint(town, arm, start, crossing=setting == "city")
    name = "yellow" if yellow else "white"
    layers |= {"white": merged(*white), "yellow": EMPTY}
    layers[name] = merged(layers[name], *middle)
    return layers


def strip(town: Town, arm: str, start: float, end: float, low: float, high: float, height: float,
          tile: float, spacing: float = SPACING) -> Quads:  # fmt: skip
    """Along an arm from ``start`` to ``end`` metres, between two distances to the left of its
    centre line (seen from the junction)."""
    distances = np.append(np.arange(start, end - 0.01, spacing), end)
    points, heading, _ = town.arms[arm].at(distances)
    normal = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
    return ribbon(points + high * normal, points + low * normal, height, tile)


def _asphalt(town: Town) -> list[Quads]:
    wide, tall = town.core
    parts = []
    for arm in town.arms:
        half = town.half_width(arm)
        inner = wide if arm in ("east", "west") else tall
        parts.append(strip(town, arm, inner, DRAWN, -half, half, ROAD, ASPHALT_TILE))
    if not town.junction:
        return parts
    core = np.array([[[-wide, -tall], [wide, -tall], [wide, tall], [-wide, tall]]])
    parts.append(flat(core, ROAD, ASPHALT_TILE))
    for sx, sy in town.corners():
        arc = _corner_arc(town, sx, sy, CORNER)
        parts.append(fan(np.array([sx * wide, sy * tall]), arc, ROAD, ASPHALT_TILE))
    return parts


def _corner_arc(town: Town, sx: int, sy: int, radius: float) -> np.ndarray:
    """The kerb of a corner, counter-clockwise around the corner of the core."""
    wide, tall = town.core
    angle = np.linspace(math.pi, 1.5 * math.pi, 9)[:: -sx * sy]
    centre = np.array([sx * (wide + CORNER), sy * (tall + CORNER)])
    return centre + radius * np.stack([sx * np.cos(angle), sy * np.sin(angle)], axis=-1)


def _pavements(town: Town) -> list[Quads]:
    wide, tall = town.core
    parts = []
    for arm in town.arms:
        half = town.half_width(arm)
        inner = (wide if arm in ("east", "west") else tall) + CORNER if town.junction else 0.0
        for low, high in ((half, half + PAVEMENT), (-half - PAVEMENT, -half)):
            parts.append(strip(town, arm, inner, DRAWN, low, high, ROAD, 2.0))
    if not town.junction:
        return parts
    for sx, sy in town.corners():
        outer, inner_arc = (_corner_arc(town, sx, sy, r) for r in (CORNER, CORNER - PAVEMENT))
        parts.append(ribbon(inner_arc, outer, ROAD, 2.0))
    for sign, arm in ((1, "north"), (-1, "south")):
        if arm not in town.arms:
            x, low, high = wide + CORNER, *sorted((sign * tall, sign * (tall + PAVEMENT)))
            parts.append(flat(np.array([[[-x, low], [x, low], [x, high], [-x, high]]]), ROAD, 2.0))
    return parts


def _middle(town: Town, arm: str, start: float, solid: bool) -> list[Quads]:
    if not solid:
        return [_dashes(town, arm, start, 0.0)]
    return [
        strip(town, arm, start, DRAWN, at - LINE / 2, at + LINE / 2, PAINT, 1.0)
        for at in (-0.17, 0.17)
    ]


def _lines(town: Town, arm: str, start: float, edges: bool) -> list[Quads]:
    """Dashes between lanes, and solid lines at the edges where there is no kerb to see."""
    parts = []
    for lane in range(1, town.lanes[arm]):
        parts += [_dashes(town, arm, start, side * lane * LANE) for side in (1, -1)]
    if edges:
        at = town.half_width(arm) - 0.4
        parts += [
            strip(town, arm, start, DRAWN, side * at - LINE / 2, side * at + LINE / 2, PAINT, 1.0)
            for side in (1, -1)
        ]
    return parts


def _dashes(town: Town, arm: str, start: float, offset: float) -> Quads:
    begin = np.arange(start + 1, DRAWN - DASH, DASH_EVERY)
    curve = town.arms[arm]
    corners = []
    for ends, side in ((0.0, -1), (DASH, -1), (DASH, 1), (0.0, 1)):
        points, heading, _ = curve.at(begin + ends)
        normal = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
        corners.append(points + (offset + side * LINE / 2) * normal)
    return flat(np.stack(corners, axis=1), PAINT, 1.0)


def _junction_paint(town: Town, arm: str, start: float, crossing: bool) -> list[Quads]:
    """The stop line, and a zebra crossing between it and the junction."""
    half = town.half_width(arm)
    parts = [strip(town, arm, start, start + 0.45, 0.15, half - 0.2, PAINT, 1.0)]
    if crossing:
        for at in np.arange(-half + 0.5, half - 0.4, 1.0):
            parts.append(strip(town, arm, start - 3.4, start - 0.9, at, at + 0.5, PAINT, 1.0))
    return parts


def beside(town: Town, arm: str, distance: float, offset: float) -> tuple[np.ndarray, float]:
    """A point ``offset`` metres to the left of an arm's centre line, and the arm's heading."""
    points, heading, _ = town.arms[arm].at(distance)
    normal = np.array([-math.sin(heading), math.cos(heading)])
    return points + offset * normal, float(heading)
