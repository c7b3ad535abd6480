"""Scripted policies: a plan for each task, in a hand of one of five skills. Plans never end."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from openwfm.simulation.manipulation.hand import Goal, Hand, Plan, Skill, wander
from openwfm.simulation.manipulation.model import CUP_HEIGHT, DRAWER_TRAVEL
from openwfm.simulation.manipulation.scene import Scene
from openwfm.simulation.manipulation.simulator import Truth
from openwfm.simulation.manipulation.tasks import hover_point, in_cup

SKILLS: dict[str, Skill | None] = {
    "random": None,
    "clumsy": Skill(aim=0.024, tremble=0.012, speed=0.65, lapses=0.15),
    "average": Skill(aim=0.014, tremble=0.006, speed=0.75, lapses=0.08),
    "good": Skill(aim=0.007, tremble=0.003, speed=0.9, lapses=0.03),
    "expert": Skill(aim=0.0, tremble=0.0, speed=1.0, lapses=0.0),
}
CARRY_HEIGHT, PUSH_HEIGHT, PUSHER_HALF = 0.15, 0.022, 0.013
PUSH_OPENING, HANDLE_OPENING = 0.35, 0.45
REACH_PACE, PUSH_PACE, DRAWER_PACE = 0.45, 0.6, 0.7
OVER_HANDLE, AT_HANDLE = np.array([0, 0, 0.1]), np.array([0, 0, -0.005])


class Policy:
    """``policy.act(truth)`` gives the next action of 7 numbers; made anew for each episode."""

    def __init__(self, scene: Scene, skill: str, rng: np.random.Generator) -> None:
        self._scene, self._skill, self._rng = scene, SKILLS[skill], rng
        self._plan: Plan | None = None

    def act(self, truth: Truth) -> np.ndarray:
        if self._plan is not None:
            return self._plan.send(truth)
        if self._skill is None:
            self._plan = wander(self._rng)
        else:
            hand = Hand(self._skill, self._rng)
            self._plan = PLANS[self._scene.task](hand, self._scene, truth)
        return next(self._plan)


def block_yaw(truth: Truth, block: int) -> float:
    """The turn of a cube about the vertical that is nearest to zero, radians."""
    w, x, y, z = truth.rotations[block]
    yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return math.remainder(yaw, math.pi / 2)


def _at_height(point: np.ndarray, height: float) -> np.ndarray:
    return np.array([point[0], point[1], height])


def _over(thing: int, height: float) -> Goal:
    """Above a thing, ``height`` metres over the table."""
    return lambda truth: _at_height(truth.positions[thing], height)


def _by_handle(offset: np.ndarray) -> Goal:
    return lambda truth: truth.handle + offset


def _reach(hand: Hand, scene: Scene, truth: Truth) -> Plan:
    while True:
        truth = yield hand.towards(truth, hover_point(scene, truth), 0.0, 0.5, REACH_PACE)


def _push(hand: Hand, scene: Scene, truth: Truth) -> Plan:
    """Go behind the block, push it along the line to the mark, start again when it slips off."""
    assert scene.mark is not None
    mark, target = np.array(scene.mark[1]), scene.target
    reach = scene.blocks[target].half + PUSHER_HALF
    while True:
        way = mark - truth.positions[target][:2]
        distance = float(np.hypot(*way))
        if distance < 0.02:
            truth = yield from hand.stay(truth, PUSH_OPENING, 1)
            continue
        ahead = way / distance
        # The gripper is the same seen from behind, so it never turns by more than a right angle.
        yaw = math.remainder(math.atan2(ahead[1], ahead[0]), math.pi)
        behind = truth.positions[target][:2] - ahead * (reach + 0.025)
        start, low = _at_height(behind, 0.11), _at_height(behind, PUSH_HEIGHT)
        truth = yield from hand.go(truth, start, yaw, PUSH_OPENING, near=0.015)
        truth = yield from hand.go(truth, low, yaw, PUSH_OPENING, patience=5)
        for _ in range(10):
            block = truth.positions[target][:2]
            way, offset = mark - block, truth.position[:2] - block
            distance = max(float(np.hypot(*way)), 1e-9)
            ahead = way / distance
            across = abs(offset[0] * ahead[1] - offset[1] * ahead[0])
            if distance < 0.012 or across > 0.02:
                break
            goal = _at_height(mark - ahead * reach, PUSH_HEIGHT)
            truth = yield hand.towards(truth, goal, yaw, PUSH_OPENING, PUSH_PACE)
        up = _at_height(truth.position, 0.14)
        truth = yield from hand.go(truth, up, yaw, PUSH_OPENING, patience=4)


def _grasp(hand: Hand, truth: Truth, block: int) -> Plan:
    yaw = block_yaw(truth, block)
    truth = yield from hand.go(truth, _over(block, 0.1), yaw, 1.0, near=0.012)
    truth = yield from hand.go(truth, lambda t: t.positions[block], yaw, 1.0, patience=6)
    return (yield from hand.stay(truth, 0.0, 2))


def _pick_and_place(hand: Hand, scene: Scene, truth: Truth) -> Plan:
    """Grasp, look whether it worked, carry and let go over the cup; once more if it missed."""
    block, cup = scene.target, len(scene.blocks)
    half = scene.blocks[block].half
    over, rim = _over(cup, CARRY_HEIGHT), _over(cup, CUP_HEIGHT + half)
    while True:
        truth = yield from _grasp(hand, truth, block)
        yaw, lift = float(truth.euler[2]), _at_height(truth.position, CARRY_HEIGHT)
        truth = yield from hand.go(truth, lift, yaw, 0.0, near=0.03, patience=5)
        if truth.positions[block][2] < half + 0.03:
            continue
        truth = yield from hand.go(truth, over, yaw, 0.0, patience=12)
        truth = yield from hand.go(truth, rim, yaw, 0.0, patience=4)
        truth = yield from hand.stay(truth, 1.0, 1)
        truth = yield from hand.go(truth, over, yaw, 1.0, patience=5)
        while in_cup(scene, truth, block):
            truth = yield from hand.stay(truth, 1.0, 1)


def _tug(hand: Hand, truth: Truth, opening: float) -> Plan:
    """Take the handle, move it until the drawer is ``opening`` metres open, let go and rise."""
    over, hold = _by_handle(OVER_HANDLE), _by_handle(AT_HANDLE)
    truth = yield from hand.go(
        truth, over, 0.0, HANDLE_OPENING, near=0.012, patience=16, pace=DRAWER_PACE
    )
    truth = yield from hand.go(truth, hold, 0.0, HANDLE_OPENING, pace=DRAWER_PACE)
    truth = yield from hand.stay(truth, 0.0, 1)
    pulled = truth.position - np.array([0, opening - truth.drawer, 0])
    truth = yield from hand.go(truth, pulled, 0.0, 0.0, patience=9, pace=DRAWER_PACE)
    truth = yield from hand.stay(truth, HANDLE_OPENING, 1)
    return (yield from hand.go(truth, over, 0.0, HANDLE_OPENING, patience=5))


def _open_drawer(hand: Hand, scene: Scene, truth: Truth) -> Plan:
    while True:
        truth = yield from _tug(hand, truth, 1.1 * DRAWER_TRAVEL)
        while truth.drawer > 0.9 * DRAWER_TRAVEL:
            truth = yield from hand.stay(truth, HANDLE_OPENING, 1)


def _play(hand: Hand, scene: Scene, truth: Truth) -> Plan:
    """Grasps, pokes, tugs at the drawer and walks, at things drawn at random."""
    rng = hand.rng
    while True:
        block, what = int(rng.integers(len(scene.blocks))), rng.random()
        opening = float(rng.random())
        if scene.cabinet and what < 0.4:
            truth = yield from _tug(hand, truth, float(rng.uniform(0, DRAWER_TRAVEL)))
        elif what < 0.7:
            truth = yield from _grasp(hand, truth, block)
            opening = 0.0
        elif what < 0.85:
            low = truth.positions[block] + [*rng.uniform(-0.06, 0.06, 2), 0.0]
            truth = yield from hand.go(truth, low, 0.0, 0.0, patience=6)
        goal = rng.uniform((-0.15, -0.18, 0.1), (0.15, 0.12, 0.22))
        yaw = float(rng.uniform(-0.8, 0.8))
        truth = yield from hand.go(truth, goal, yaw, opening, patience=6)
        truth = yield from hand.stay(truth, float(rng.random()), 1)


PLANS: dict[str, Callable[[Hand, Scene, Truth], Plan]] = {
    "reach": _reach,
    "push": _push,
    "pick_and_place": _pick_and_place,
    "open_drawer": _open_drawer,
    "play": _play,
}
