"""When a task is done, read from the simulator's state."""

from __future__ import annotations

import numpy as np

from openwfm.simulation.manipulation.model import CUP_HEIGHT, CUP_RADIUS
from openwfm.simulation.manipulation.scene import Scene
from openwfm.simulation.manipulation.simulator import Truth

HOVER = 0.035  # metres above a block's top
REACHED, ON_MARK, IN_CUP, LET_GO = 0.02, 0.025, 0.8 * CUP_RADIUS, 0.05
DRAWER_OPEN = 0.085
HOLD = 2  # frames in a row for which a task must be done


def hover_point(scene: Scene, truth: Truth) -> np.ndarray:
    block = truth.positions[scene.target]
    return block + np.array([0, 0, scene.blocks[scene.target].half + HOVER])


def in_cup(scene: Scene, truth: Truth, block: int) -> bool:
    """The block's centre is inside of the cup, below its rim."""
    if scene.cup is None:
        return False
    away = truth.positions[block] - truth.positions[len(scene.blocks)]
    return bool(np.hypot(*away[:2]) < IN_CUP and -0.01 < away[2] < CUP_HEIGHT)


def is_done(scene: Scene, truth: Truth) -> bool:
    """At this instant, with what was to be moved let go. Playing is never done."""
    block = truth.positions[scene.target]
    if scene.task == "reach":
        return bool(np.linalg.norm(hover_point(scene, truth) - truth.position) < REACHED)
    if scene.task == "push":
        assert scene.mark is not None
        off = np.hypot(*(block[:2] - scene.mark[1]))
        return bool(off < ON_MARK and block[2] < 2 * scene.blocks[scene.target].half)
    if scene.task == "pick_and_place":
        free = np.linalg.norm(truth.position - block) > LET_GO
        return bool(free and in_cup(scene, truth, scene.target))
    if scene.task == "open_drawer":
        free = np.linalg.norm(truth.position - truth.handle) > LET_GO
        return bool(free and truth.drawer > DRAWER_OPEN)
    return False
