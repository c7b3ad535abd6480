"""Traffic that obeys simple rules: keep the lane, the distance and the speed; yield at junctions.

Vehicles follow their routes with the Intelligent Driver Model (Treiber, Hennecke and Helbing 2000,
https://arxiv.org/abs/cond-mat/0002177, equations 3 and 4). Who wants to cross a junction must hold
it: it is given in turn, to those whose light is green, and never to two whose ways meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openwfm.simulation.driving.roads import Route
from openwfm.simulation.driving.vehicles import KINDS

RATE = 30  # steps a second
ACCELERATION, BRAKING, HEADWAY, STANDSTILL = 1.6, 2.2, 1.3, 2.5
HARDEST, LAG = -4.0, 0.25  # m/s² and seconds
SIDEWAYS, EASING = 2.0, 1.2  # m/s²: in bends, and when slowing down before them
AMBER, ALL_RED = 3.0, 1.5
MAIN = ("east", "west")


@dataclass(frozen=True, kw_only=True, eq=False)
class Driver:
    """A vehicle at the start: ``arc`` metres along its route, at ``speed``; it would like to drive
    at ``wish`` (both m/s)."""

    kind: str
    colour: str
    route: Route
    arc: float
    speed: float
    wish: float

    @property
    def length(self) -> float:
        return KINDS[self.kind].length


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How the junction is controlled: ``lights``, ``stop_signs`` on the side road, or ``yield``.

    With lights the ``first`` road (main, side) is green until ``switch`` seconds, then the other.
    """

    control: str
    first: str = "main"
    switch: float = 1e9

    def colour(self, origin: str, time: float) -> str:
        """Of the light that traffic from ``origin`` sees."""
        road = "main" if origin in MAIN else "side"
        if road == self.first:
            if time < self.switch - AMBER:
                return "green"
            return "amber" if time < self.switch else "red"
        return "green" if time >= self.switch + ALL_RED else "red"


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """``arcs``, ``speeds``, ``accelerations``: ``t n``, RATE times a second."""

    arcs: np.ndarray
    speeds: np.ndarray
    accelerations: np.ndarray


def profile(route: Route) -> np.ndarray:
    """The highest speed on the route's samples that bends allow, slowing down gently before."""
    curve = route.curve
    fastest = np.sqrt(SIDEWAYS / np.maximum(np.abs(curve.curvature), 1e-4))
    # v² + 2·EASING·s must not exceed that of any later point.
    ahead = np.minimum.accumulate((fastest**2 + 2 * EASING * curve.arc)[::-1])[::-1]
    return np.sqrt(ahead - 2 * EASING * curve.arc)


def conflicts(routes: list[Route]) -> np.ndarray:
    """``n n`` of bool: whether two routes come closer than a vehicle's width inside the junction;
    those from one lane keep their distance by themselves until they part."""
    inner = []
    for route in routes:
        arc = np.arange(route.stop, route.clear, 1.0) if np.isfinite(route.stop) else np.zeros(0)
        inner.append(route.curve.at(arc)[0])
    meet = np.zeros((len(routes), len(routes)), bool)
    for i, a in enumerate(inner):
        for j, b in enumerate(inner[:i]):
            gaps = np.linalg.norm(a[:, None] - b, axis=-1)
            meet[i, j] = meet[j, i] = bool(gaps.size) and gaps.min() < 3.2
    return meet


class Traffic:
    """Simulates drivers; the state is held in arrays over them."""

    def __init__(self, drivers: list[Driver], rules: Rules) -> None:
        self.drivers, self.rules = drivers, rules
        self.arcs = np.array([d.arc for d in drivers])
        self.speeds = np.array([d.speed for d in drivers])
        self.accelerations = np.zeros(len(drivers))
        self._half = np.array([d.length / 2 for d in drivers])
        self._wish = np.array([d.wish for d in drivers])
        routes = [d.route for d in drivers]
        self._stop = np.array([r.stop for r in routes])
        self._clear = np.array([r.clear for r in routes])
        self._length = np.array([r.curve.length for r in routes])
        self._profiles = {r.key: profile(r) for r in routes}
        self._conflict = conflicts(routes)
        self._same_way = np.array([[a.key == b.key for b in routes] for a in routes])
        self._same_in = np.array(
            [
                [a.origin == b.origin and bool(set(a.lanes) & set(b.lanes)) for b in routes]
                for a in routes
            ]
        )
        self._same_out = np.array(
            [
                [a.exit == b.exit and bool(set(a.exit_lanes) & set(b.exit_lanes)) for b in routes]
                for a in routes
            ]
        )
        self._holds = self.arcs >= self._stop - self._half
        self._stopped = np.zeros(len(drivers), bool)

    def run(self, steps: int) -> Flow:
        seen = []
        for step in range(steps):
            if np.isfinite(self._stop).any():
                self._give_way(step / RATE)
            self.accelerations = self._accelerate()
            seen.append((self.arcs.copy(), self.speeds.copy(), self.accelerations.copy()))
            after = np.maximum(self.speeds + self.accelerations / RATE, 0.0)
            self.arcs = self.arcs + (self.speeds + after) / 2 / RATE
            self.speeds = after
        arcs, speeds, accelerations = (np.stack(values) for values in zip(*seen, strict=True))
        return Flow(arcs=arcs, speeds=speeds, accelerations=accelerations)

    def leading(self) -> np.ndarray:
        """``n n``: metres from the front of i to the rear of j ahead of it in its lane, or inf."""
        ahead = self.arcs[None] - self.arcs[:, None]
        arriving = self._same_in & (ahead > 0)
        arriving &= self._same_way | (self.arcs < np.minimum(self._stop + 16, 1e6))[None]
        left = self._length - self.arcs
        further = left[:, None] - left[None]
        leaving = self._same_out & (further > 0) & (self.arcs > self._clear - 12)[None]
        gap = np.where(arriving, ahead, np.inf)
        gap = np.minimum(gap, np.where(leaving & ~self._same_way, further, np.inf))
        gap = gap - self._half[:, None] - self._half[None]
        np.fill_diagonal(gap, np.inf)
        return gap

    def _accelerate(self) -> np.ndarray:
        """IDM towards the nearest of: the vehicle ahead, and the stop line when it is closed."""
        free = np.array([
            np.interp(arc, d.route.curve.arc, self._profiles[d.route.key])
            for arc, d in zip(self.arcs, self.drivers, strict=True)
        ])  # fmt: skip
        gaps = self.leading()
        nearest = gaps.argmin(axis=1)
        rows = np.arange(len(nearest))
        push = self._interaction(gaps[rows, nearest], self.speeds - self.speeds[nearest])
        line = np.where(self._holds, np.inf, self._stop - self.arcs - self._half + 1.5)
        push = np.maximum(push, self._interaction(line, self.speeds))
        wanted = np.minimum(self._wish, free)
        target = ACCELERATION * (1 - (self.speeds / wanted) ** 4 - push)
        smooth = self.accelerations + (target - self.accelerations) / (LAG * RATE)
        low = np.maximum(HARDEST, -self.speeds * RATE)
        return np.clip(smooth, low, ACCELERATION)

    def _interaction(self, gap: np.ndarray, closing: np.ndarray) -> np.ndarray:
        """(s*/s)², equation 4."""
        dynamic = self.speeds * HEADWAY + self.speeds * closing / (
            2 * np.sqrt(ACCELERATION * BRAKING)
        )
        return np.asarray(((STANDSTILL + np.maximum(0, dynamic)) / np.maximum(gap, 0.1)) ** 2)

    def _give_way(self, time: float) -> None:
        """Who may cross: in the order of arrival, never two whose ways meet."""
        front = self._stop - self.arcs - self._half
        self._stopped |= (self.speeds < 0.3) & (front < 3.5)
        inside = self._holds & (self.arcs - self._half < self._clear)
        for i in np.argsort(front):
            reach = self.speeds[i] ** 2 / 3.0 + 12
            if not np.isfinite(front[i]) or self.arcs[i] >= self._stop[i] or front[i] > reach:
                continue
            allowed = self._allowed(i, time, float(front[i]))
            if self._holds[i] and not allowed and front[i] > self.speeds[i] ** 2 / 5 + 1:
                self._holds[i] = inside[i] = False
            elif not self._holds[i] and allowed and front[i] > -1:
                waiting = self._same_in[i] & ~self._holds & (self.arcs > self.arcs[i])
                blocked = inside & self._conflict[i] & ~self._same_in[i]
                parting = inside & self._same_in[i] & ~self._same_way[i]
                blocked |= parting & (self.arcs - self._half < self._stop + 14)
                if not waiting.any() and not blocked.any():
                    self._holds[i] = inside[i] = True

    def _allowed(self, i: int, time: float, front: float) -> bool:
        """By the lights or signs; the side road yields to whoever comes near on the main road."""
        origin = self.drivers[i].route.origin
        if self.rules.control == "lights":
            colour = self.rules.colour(origin, time)
            late = front < self.speeds[i] ** 2 / 5 + 1
            return colour == "green" or (colour == "amber" and bool(self._holds[i]) and late)
        if origin in MAIN or self._holds[i]:
            return True
        if self.rules.control == "stop_signs" and not self._stopped[i]:
            return False
        near = (self._stop - self.arcs > 0) & (self._stop - self.arcs < 3.5 * self.speeds + 5)
        main = np.array([d.route.origin in MAIN for d in self.drivers])
        return not (near & main & self._conflict[i]).any()
