"""One drive: a town, drivers on their routes, and the stretch of time that a clip shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openwfm.data.members import TRAJECTORY_POINTS, TRAJECTORY_STEP
from openwfm.simulation.driving.roads import LANE, Route, Town, draw_town
from openwfm.simulation.driving.traffic import RATE, Driver, Flow, Rules, Traffic
from openwfm.simulation.driving.vehicles import KINDS
from openwfm.simulation.worlds import ClipRejectedError

SETTINGS = {"city": (11.1, 13.9), "suburb": (8.4, 13.9), "country": (13.9, 19.4)}
SETTLE, LATEST = 3.0, 14.0  # seconds before the first frame: at least, at most
SPARE = TRAJECTORY_POINTS * TRAJECTORY_STEP + 0.2
FIND_ATTEMPTS, MAX_DRAWS = 12, 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """``drivers[0]`` is the car with the cameras. ``first`` is the step of the first frame and
    ``stride`` the steps from frame to frame; ``limit`` is the speed limit in m/s."""

    behaviour: str
    setting: str
    limit: float
    town: Town
    rules: Rules
    drivers: tuple[Driver, ...]
    flow: Flow
    first: int
    stride: int
    num_frames: int

    @property
    def steps(self) -> np.ndarray:
        """Of the clip's frames."""
        return self.first + self.stride * np.arange(self.num_frames)

    def poses(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """At the given steps: centres ``t n 2``, headings ``t n`` and curvatures ``t n``."""
        found = [
            driver.route.curve.at(self.flow.arcs[steps, index])
            for index, driver in enumerate(self.drivers)
        ]
        points, headings, curvatures = zip(*found, strict=True)
        return np.stack(points, 1), np.stack(headings, 1), np.stack(curvatures, 1)

    def trajectory(self) -> np.ndarray:
        """``64 3``: the car ahead of its first pose (x forward, y left, z up), 0.1 s apart."""
        stride = round(TRAJECTORY_STEP * RATE)
        steps = self.first + stride * np.arange(TRAJECTORY_POINTS + 1)
        points, heading, _ = self.poses(steps)
        cos, sin = math.cos(heading[0, 0]), math.sin(heading[0, 0])
        local = (points[1:, 0] - points[0, 0]) @ np.array([[cos, -sin], [sin, cos]])
        return np.pad(local, ((0, 0), (0, 1)))


def draw_episode(
    rng: np.random.Generator, behaviour: str, *, fps: int, num_frames: int, max_agents: int
) -> Episode:
    """A drive in which the car does ``behaviour`` while it is filmed.

    Raises ClipRejectedError (``not_found``) when none of a few draws shows that.
    """
    seconds = (num_frames - 1) / fps
    problem = ""
    for _ in range(FIND_ATTEMPTS):
        setting, town, rules, route = _place(rng, behaviour)
        limit = round(float(rng.uniform(*SETTINGS[setting])), 1)
        drivers = _drivers(rng, town, route, limit, behaviour, max_agents)
        flow = Traffic(drivers, rules).run(math.ceil((LATEST + seconds + SPARE) * RATE))
        first = _first(rng, behaviour, route, flow, seconds)
        if first is None:
            problem = f"the car does not {behaviour} in time"
            continue
        episode = Episode(
            behaviour=behaviour, setting=setting, limit=limit, town=town, rules=rules,
            drivers=tuple(drivers), flow=flow, first=first, stride=RATE // fps,
            num_frames=num_frames,
        )  # fmt: skip
        if not (hits := collisions(episode)):
            return episode
        problem = f"vehicles {hits[0]} collide"
    raise ClipRejectedError("not_found", f"{problem}, after {FIND_ATTEMPTS} draws")


def _place(rng: np.random.Generator, behaviour: str) -> tuple[str, Town, Rules, Route]:
    """Where it happens, how the junction is controlled, and the way of the car."""
    setting = str(rng.choice(list(SETTINGS)))
    main_lanes = (
        2 if behaviour == "lane_change" or (setting == "city" and rng.random() < 0.6) else 1
    )
    sides: tuple[str, ...] = ("north", "south")
    if behaviour in ("left", "right"):
        wanted = "north" if behaviour == "left" else "south"
        sides = sides if rng.random() < 0.65 else (wanted,)
    elif behaviour == "lane_change" or (behaviour == "straight" and rng.random() < 0.3):
        sides = ()
    elif rng.random() < 0.3:
        sides = (str(rng.choice(sides)),)
    town = draw_town(rng, side_roads=sides, main_lanes=main_lanes, bends=bool(rng.random() < 0.8))
    lights = setting == "city" or (setting == "suburb" and rng.random() < 0.3)
    control = "lights" if lights else str(rng.choice(["stop_signs", "yield"]))
    if not sides:
        control = "none"
    origin = "west"
    if behaviour == "stop":
        if lights:
            rules = Rules(control=control, first="side", switch=float(rng.uniform(10, 16)))
            return setting, town, rules, _way(rng, town, origin)
        control, origin = "stop_signs", str(rng.choice(sides))
    rules = Rules(control=control)
    if behaviour in ("left", "right"):
        return (
            setting,
            town,
            rules,
            town.turning(origin, "north" if behaviour == "left" else "south"),
        )
    if behaviour == "lane_change":
        lane = int(rng.integers(2))
        start = town.arms["west"].length + rng.uniform(-30, 20)
        length = float(rng.uniform(40, 55))
        return setting, town, rules, town.through(origin, lane, 1 - lane, start, length)
    if behaviour == "stop":
        return setting, town, rules, _way(rng, town, origin)
    return setting, town, rules, town.through(origin, int(rng.integers(main_lanes)))


def _way(rng: np.random.Generator, town: Town, origin: str) -> Route:
    """Any way from ``origin``; a stop does not say where it goes afterwards."""
    routes = [route for route in town.routes() if route.origin == origin]
    return routes[int(rng.integers(len(routes)))]


def _drivers(
    rng: np.random.Generator, town: Town, route: Route, limit: float, behaviour: str, most: int
) -> list[Driver]:
    """The car first, then others around it with room between them."""
    middle = min(route.stop, route.turn, town.arms[route.origin].length)
    wish = limit * rng.uniform(0.84, 0.95)
    lead = {"straight": rng.uniform(20, 90), "stop": rng.uniform(60, 80)}.get(
        behaviour, wish * rng.uniform(5.5, 7.5)
    )
    ego = Driver(
        kind="car", colour="white", route=route, arc=middle - lead, speed=wish * 0.9, wish=wish
    )
    drivers = [ego]
    routes = town.routes()
    wanted = int(rng.integers(min(4, most), most + 1)) if most else 0
    for _ in range(MAX_DRAWS):
        if len(drivers) == wanted + 1:
            break
        driver = _other(rng, routes, route, ego, limit)
        if all(_apart(driver, other) for other in drivers):
            drivers.append(driver)
    return drivers


def _other(
    rng: np.random.Generator, routes: list[Route], own: Route, ego: Driver, limit: float
) -> Driver:
    """Some drive ahead of the car or behind it, most come from elsewhere."""
    kind = str(rng.choice(list(KINDS), p=[0.58, 0.2, 0.12, 0.1]))
    near = [r for r in routes if r.origin == own.origin]
    nearby = rng.random() < 0.4
    allowed = [
        r for r in (near if nearby else routes) if KINDS[kind].turns or not math.isfinite(r.turn)
    ] or [own]
    if allowed == [own]:
        kind = "car"
    route = allowed[int(rng.integers(len(allowed)))]
    if route.origin == own.origin:
        arc = ego.arc + float(rng.choice([-1, 1, 1])) * rng.uniform(14, 70)
    else:
        junction = route.curve.length / 2
        arc = junction - rng.uniform(25, 190)
    wish = min(limit * 0.95, rng.uniform(0.75, 0.95) * limit)
    return Driver(
        kind=kind, colour=str(rng.choice(KINDS[kind].colours)), route=route, arc=arc,
        speed=wish * rng.uniform(0.7, 0.95), wish=wish,
    )  # fmt: skip


def _apart(one: Driver, two: Driver) -> bool:
    """Whether two drivers start far enough from each other, and none inside the junction."""
    if one.route.stop - 18 < one.arc < one.route.clear + 8:
        return False
    if one.route.origin != two.route.origin or not set(one.route.lanes) & set(two.route.lanes):
        gap = np.linalg.norm(one.route.curve.at(one.arc)[0] - two.route.curve.at(two.arc)[0])
        return bool(gap > (one.length + two.length) / 2 + LANE)
    rear = one if one.arc < two.arc else two
    return abs(one.arc - two.arc) > (one.length + two.length) / 2 + 4 + 0.9 * rear.speed


def _first(
    rng: np.random.Generator, behaviour: str, route: Route, flow: Flow, seconds: float
) -> int | None:
    """The step of the first frame, so that the behaviour is seen; None when it comes too late."""
    arcs, speeds = flow.arcs[:, 0], flow.speeds[:, 0]
    if behaviour == "straight":
        return round((SETTLE + rng.uniform(0, 3)) * RATE)
    if behaviour == "stop":
        happens = np.flatnonzero(speeds < 0.1)
        back = seconds * rng.uniform(0.5, 0.8)
    else:
        happens = np.flatnonzero(arcs > route.turn)
        back = min(rng.uniform(0.2, 0.9), 0.3 * seconds)
    if not len(happens):
        return None
    first = int(happens[0]) - round(back * RATE)
    return first if SETTLE * RATE <= first <= LATEST * RATE else None


def collisions(episode: Episode) -> list[tuple[int, int]]:
    """Pairs of vehicles whose boxes overlap at any step from the first frame to the end of the
    trajectory (separating axes)."""
    last = len(episode.flow.arcs) - 1
    steps = np.arange(episode.first, last + 1, 3)
    points, headings, _ = episode.poses(steps)
    halves = np.array([KINDS[d.kind].size[:2] for d in episode.drivers]) / 2
    forward = np.stack([np.cos(headings), np.sin(headings)], axis=-1)
    axes = np.stack([forward, np.stack([-forward[..., 1], forward[..., 0]], -1)], axis=-2)
    hits = []
    for i in range(len(halves)):
        for j in range(i):
            apart = points[:, i] - points[:, j]
            free = np.zeros(len(steps), bool)
            for axis in (axes[:, i, 0], axes[:, i, 1], axes[:, j, 0], axes[:, j, 1]):
                reach = sum(
                    halves[k, side] * np.abs((axes[:, k, side] * axis).sum(-1))
                    for k in (i, j)
                    for side in (0, 1)
                )
                free |= np.abs((apart * axis).sum(-1)) > reach + 0.05
            if not free.all():
                hits.append((j, i))
    return hits
