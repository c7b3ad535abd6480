"""A hand of graded skill: it carries out the moves of which plans are made.

A plan is a generator that is sent the truth and yields actions. A hand of lesser skill aims beside
the goal by an offset that it keeps, trembles, is slower and has lapses in which it does something
of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.manipulation.actions import (
    ACTION_HIGH,
    ACTION_LOW,
    MAX_SHIFT,
    MAX_TURN,
    euler_angles,
    rotation,
)
from openwfm.simulation.manipulation.simulator import Truth

Plan = Generator[np.ndarray, Truth, Truth]
Goal = Callable[[Truth], np.ndarray]
TEMPI = (0.75, 1.0)  # an episode's share of the hand's speed
CLOSE_YAW = 0.1


@dataclass(frozen=True, kw_only=True)
class Skill:
    """``aim`` and ``tremble`` are standard deviations in metres, of an episode's constant error and
    of every step's; ``speed`` is a share of the fastest; ``lapses`` a probability per step."""

    aim: float
    tremble: float
    speed: float
    lapses: float


class Hand:
    def __init__(self, skill: Skill, rng: np.random.Generator) -> None:
        self._skill, self.rng = skill, rng
        self._aim = np.array([1, 1, 0.5]) * rng.normal(0, skill.aim, 3)
        self._pace = skill.speed * rng.uniform(*TEMPI)

    def towards(
        self, truth: Truth, goal: np.ndarray, yaw: float, opening: float, pace: float = 1.0
    ) -> np.ndarray:
        """One step towards ``goal``, upright, turned by ``yaw``."""
        skill, rng = self._skill, self.rng
        way = goal + self._aim - truth.position
        limit = 0.95 * MAX_SHIFT * self._pace * pace
        way *= min(1.0, limit / max(float(np.linalg.norm(way)), 1e-9))
        way += rng.normal(0, skill.tremble, 3)
        if rng.random() < skill.lapses:
            way, opening = rng.normal(0, 0.03, 3), float(rng.random() < 0.7)
        turn = rotation(truth.euler)
        angles = euler_angles(turn.T @ rotation(np.array([0.0, 0.0, yaw])))
        angles = np.clip(angles, -0.9 * MAX_TURN, 0.9 * MAX_TURN)
        action = np.concatenate([turn.T @ way, angles, [opening]])
        return np.clip(action, ACTION_LOW, ACTION_HIGH)

    def go(
        self,
        truth: Truth,
        goal: Goal | np.ndarray,
        yaw: float,
        opening: float,
        *,
        near: float = 0.008,
        patience: int = 10,
        pace: float = 1.0,
    ) -> Plan:
        """Until the hand believes itself ``near`` the goal (metres), or after ``patience`` steps.

        ``goal`` is a point, or where something is in the truth of each step.
        """
        for _ in range(patience):
            point = goal(truth) if callable(goal) else goal
            off = float(np.linalg.norm(point + self._aim - truth.position))
            turned = abs(math.remainder(yaw - truth.euler[2], 2 * math.pi))
            if off < near + self._skill.tremble and turned < CLOSE_YAW:
                break
            truth = yield self.towards(truth, point, yaw, opening, pace)
        return truth

    def stay(self, truth: Truth, opening: float, steps: int) -> Plan:
        here, yaw = truth.position - self._aim, float(truth.euler[2])
        for _ in range(steps):
            truth = yield self.towards(truth, here, yaw, opening)
        return truth


def wander(rng: np.random.Generator) -> Plan:
    """Smooth random motion without a goal; it never ends."""
    drift, opening = np.zeros(6), 0.5
    scale = np.array([0.022] * 3 + [0.08] * 3)
    while True:
        drift = 0.75 * drift + scale * rng.normal(size=6)
        if rng.random() < 0.2:
            opening = rng.random()
        yield np.clip(np.concatenate([drift, [opening]]), ACTION_LOW, ACTION_HIGH)
