"""A junction (or none) and the roads that leave it: lanes, routes, and where the asphalt is.

The junction is at the origin; the main road leaves it to the east (+x) and west, the side road to
the north and south. Traffic keeps to the right. Lengths are metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.driving.curves import STEP, Curve, bent, joined, quarter_turn

LANE, KERB = 3.5, 0.4
ARM_LENGTH, STRAIGHT = 500.0, 60.0
CORNER = 7.0  # radius of the kerb at a corner
STOP_BACK = 11.0  # the stop line lies this far before the crossing road
DIRECTIONS = {"east": 0.0, "north": math.pi / 2, "west": math.pi, "south": -math.pi / 2}
OPPOSITE = {"east": "west", "west": "east", "north": "south", "south": "north"}
REACH = {1: 9.5, -1: 8.5}


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """A way through the town. ``curve`` is what a car's centre follows; ``stop`` and ``clear`` are
    the arc lengths of the stop line and of the junction's far side (infinite without one);
    ``turn`` is the arc length where the manoeuvre (turn, change of lane) begins."""

    origin: str
    exit: str
    lanes: tuple[int, ...]
    exit_lanes: tuple[int, ...]
    curve: Curve
    stop: float = math.inf
    clear: float = math.inf
    turn: float = math.inf

    @property
    def key(self) -> tuple[str, str, tuple[int, ...], tuple[int, ...]]:
        return self.origin, self.exit, self.lanes, self.exit_lanes


@dataclass(frozen=True, kw_only=True, eq=False)
class Town:
    """``arms`` leave the junction; ``lanes`` counts those of one direction, by arm."""

    arms: dict[str, Curve]
    lanes: dict[str, int]

    @property
    def junction(self) -> bool:
        return "north" in self.arms or "south" in self.arms

    def half_width(self, arm: str) -> float:
        return self.lanes[arm] * LANE + KERB

    @property
    def core(self) -> tuple[float, float]:
        """Half widths of the junction along x and y: of the side road and of the main road."""
        side = max(
            (self.half_width(arm) for arm in ("north", "south") if arm in self.arms), default=0
        )
        return side, self.half_width("east")

    def stop_distance(self, arm: str) -> float:
        """From the junction's centre to the stop line."""
        return STOP_BACK + self.core[0 if arm in ("east", "west") else 1]

    def through(
        self,
        origin: str,
        lane: int,
        target: int | None = None,
        start: float = 0.0,
        length: float = 0.0,
    ) -> Route:
        """Straight on in ``lane`` (0 is the innermost); or over into lane ``target`` between
        ``start`` and ``start + length`` metres along the road."""
        leaving = OPPOSITE[origin]
        centre = joined(self.arms[origin].reversed(), self.arms[leaving])
        offset = np.full(len(centre.arc), -(lane + 0.5) * LANE)
        lanes: tuple[int, ...] = (lane,)
        turn = math.inf
        if target is not None:
            x = np.clip((centre.arc - start) / length, 0, 1)
            offset += (lane - target) * LANE * x**3 * (10 - 15 * x + 6 * x**2)
            lanes, turn = tuple(sorted((lane, target))), start
        curve = centre.shifted(offset)
        if not self.junction:
            return Route(
                origin=origin, exit=leaving, lanes=lanes, exit_lanes=lanes, curve=curve, turn=turn
            )
        reach = self.stop_distance(origin)
        middle = float(np.interp(self.arms[origin].length, centre.arc, curve.arc))
        return Route(
            origin=origin,
            exit=leaving,
            lanes=lanes,
            exit_lanes=lanes,
            curve=curve,
            stop=middle - reach,
            clear=middle + reach - 3,
            turn=turn,
        )

    def turning(self, origin: str, leaving: str) -> Route:
        """Left from the innermost lane, right from the outermost."""
        turned = DIRECTIONS[leaving] - DIRECTIONS[origin] - math.pi
        side = 1 if math.sin(turned) > 0 else -1
        lane = 0 if side == 1 else self.lanes[origin] - 1
        exit_lane = 0 if side == 1 else self.lanes[leaving] - 1
        arriving = self.arms[origin].reversed().shifted(-(lane + 0.5) * LANE)
        out = self.arms[leaving].shifted(-(exit_lane + 0.5) * LANE)
        # Distances from the junction's centre at which the turn leaves and meets the lanes.
        before = REACH[side] - side * (exit_lane + 0.5) * LANE
        after = REACH[side] - side * (lane + 0.5) * LANE
        first = arriving.part(0, arriving.length - before)
        curve = joined(
            first,
            quarter_turn(first.points[-1], float(first.heading[-1]), REACH[side], side),
            out.part(after, out.length),
        )
        turn = first.length
        return Route(
            origin=origin, exit=leaving, lanes=(lane,), exit_lanes=(exit_lane,), curve=curve,
            stop=arriving.length - self.stop_distance(origin),
            clear=curve.length - (out.length - max(after, self.stop_distance(leaving) - 3)),
            turn=turn,
        )  # fmt: skip

    def routes(self) -> list[Route]:
        """Every way through, without changes of lane."""
        found = []
        for origin in self.arms:
            if OPPOSITE[origin] in self.arms:
                found += [self.through(origin, lane) for lane in range(self.lanes[origin])]
            found += [
                self.turning(origin, leaving)
                for leaving in self.arms
                if leaving not in (origin, OPPOSITE[origin])
            ]
        return found

    def asphalt_margin(self, points: np.ndarray) -> np.ndarray:
        """Metres from points ``n 2`` to the edge of the asphalt, positive on it."""
        margins = []
        for arm, curve in self.arms.items():
            sparse = curve.points[::20]
            gaps = np.linalg.norm(points[:, None] - sparse, axis=-1)
            nearest = gaps.argmin(axis=1)
            normal = np.stack([-np.sin(curve.heading), np.cos(curve.heading)], -1)[::20][nearest]
            across = np.abs(((points - sparse[nearest]) * normal).sum(-1))
            margin = self.half_width(arm) - across
            # The arm's end at the junction is open, and covered by the corners below.
            margins.append(np.where((nearest > 0) | (not self.junction), margin, -np.inf))
        x, y = np.abs(points).T
        wide, tall = self.core
        margins.append(np.minimum(wide - x, tall - y) if self.junction else np.full(len(x), -1e9))
        for sx, sy in self.corners():
            cx, cy = wide + CORNER - sx * points[:, 0], tall + CORNER - sy * points[:, 1]
            inside = (cx > 0) & (cy > 0) & (cx < CORNER + wide) & (cy < CORNER + tall)
            margins.append(np.where(inside, np.hypot(cx, cy) - CORNER, -np.inf))
        return np.max(margins, axis=0)

    def corners(self) -> list[tuple[int, int]]:
        """Signs of x and y of the corners between two arms."""
        sides = [s for s, arm in ((1, "north"), (-1, "south")) if arm in self.arms]
        return [(sx, sy) for sy in sides for sx in (1, -1)]


def draw_town(
    rng: np.random.Generator, *, side_roads: tuple[str, ...], main_lanes: int, bends: bool
) -> Town:
    """The main road, ``side_roads`` (north, south), and how they bend beyond the junction."""
    names = ("east", "west", *side_roads)
    arms = {name: _arm(rng, DIRECTIONS[name], bends) for name in names}
    lanes = {name: main_lanes if name in ("east", "west") else 1 for name in names}
    return Town(arms=arms, lanes=lanes)


def _arm(rng: np.random.Generator, heading: float, bends: bool) -> Curve:
    """Straight, then one gentle bend of at most half a radian, then straight."""
    arc = np.arange(0, ARM_LENGTH + STEP / 2, STEP)
    peak, hold, ramp = rng.uniform(1 / 320, 1 / 160), rng.uniform(10, 60), 35.0
    start = STRAIGHT + rng.uniform(0, 60)
    shape = np.interp(arc, start + np.cumsum([0, ramp, hold, ramp]), [0, 1, 1, 0])
    sign = float(rng.choice([-1, 1])) * bends
    return bent(np.zeros(2), heading, sign * peak * shape)
