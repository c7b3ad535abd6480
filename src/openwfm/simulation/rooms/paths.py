"""Smooth camera paths that keep clear of everything, and of which the liveliest is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openwfm.simulation.lens import Lens, look_at
from openwfm.simulation.rooms.layout import Room
from openwfm.simulation.rooms.parts import Solids
from openwfm.simulation.worlds import ClipRejectedError

CLEARANCE = 0.3  # metres from the camera to any part
MIN_VIEW, MIN_MIDDLE_VIEW = 0.5, 1.1  # metres that the camera sees ahead, anywhere and midway
TRIES, KEEP = 120, 6
STEP_RATE = 1.9  # steps a second of a walker


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraPath:
    """``poses`` camera-to-world ``t 4 4``; ``direction`` one of left, right, up, down, forward,
    back as the viewer has it (for an orbit, where the camera itself goes; for a walk, where it
    bends, or forward); ``target`` the index of the thing that the first frame looks at."""

    motion: str
    direction: str
    target: int
    poses: np.ndarray

    @property
    def length(self) -> float:
        """Metres that the camera travels."""
        eyes = self.poses[:, :3, 3]
        return float(np.linalg.norm(np.diff(eyes, axis=0), axis=1).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Start:
    """Where a path starts: ``progress`` ``t`` in [0, 1] and ``seconds`` ``t`` along it."""

    eye: np.ndarray
    target: np.ndarray
    progress: np.ndarray
    seconds: np.ndarray

    def reach(self, rng: np.random.Generator, rates: tuple[float, float], most: float) -> float:
        """How far a motion goes in the whole clip at a rate a second, signed at random."""
        amount = min(float(rng.uniform(*rates)) * float(self.seconds[-1]), most)
        return amount * float(rng.choice([-1, 1]))


Track = tuple[np.ndarray, np.ndarray, str]  # eyes t 3, lines of sight t 3, direction


def draw_path(
    rng: np.random.Generator,
    room: Room,
    solids: Solids,
    motion: str,
    lens: Lens,
    seconds: np.ndarray,
) -> CameraPath:
    """The path, of the first few that are clear, which sees the most things at its ends.

    ``seconds`` ``t`` are the frames' times from 0 on. Raises ClipRejectedError when none is clear.
    """
    targets = [i for i, thing in enumerate(room.things) if not thing.surface]
    low, high = solids.bounds()
    middles = (low + high) / 2
    best: tuple[int, int, Track] | None = None
    found = 0
    for _ in range(TRIES):
        target = room.centre if rng.random() < 0.4 else targets[rng.integers(len(targets))]
        eyes, sights, direction = MOVES[motion](rng, _start(rng, room, middles[target], seconds))
        if not _clear(room, solids, eyes):
            continue
        ends = [0, len(eyes) // 2, -1]
        seen = _things_seen(room, solids, _poses(eyes[ends], sights[ends]), lens)
        if seen is None:
            continue
        if best is None or seen > best[0]:
            best = seen, target, (eyes, sights, direction)
        found += 1
        if found == KEEP:
            break
    if best is None:
        raise ClipRejectedError("blocked", f"no clear {motion} in {TRIES} tries ({room.kind})")
    _, target, (eyes, sights, direction) = best
    poses = _poses(eyes, sights)
    return CameraPath(motion=motion, direction=direction, target=target, poses=poses)


def _poses(eyes: np.ndarray, sights: np.ndarray) -> np.ndarray:
    return np.stack([look_at(eye, eye + way) for eye, way in zip(eyes, sights, strict=True)])


def _start(rng: np.random.Generator, room: Room, target: np.ndarray, seconds: np.ndarray) -> _Start:
    reach = np.asarray(room.size[:2]) / 2 - 0.4
    heights = (1.0, 1.75) if room.indoors else (1.2, 2.2)
    eye = np.append(rng.uniform(-reach, reach), rng.uniform(*heights))
    u = seconds / max(float(seconds[-1]), 1e-9)
    ease = rng.uniform(0, 0.7)
    smooth = u**3 * (6 * u**2 - 15 * u + 10)
    aim = target * (1, 1, 0.7) + (*rng.uniform(-0.3, 0.3, 2), 0.25)
    return _Start(eye=eye, target=aim, progress=(1 - ease) * u + ease * smooth, seconds=seconds)


def _sight(yaw: np.ndarray | float, pitch: np.ndarray | float) -> np.ndarray:
    """Unit vectors ``… 3``; radians, pitch upwards."""
    yaw, pitch = np.broadcast_arrays(yaw, pitch)
    flat = np.cos(pitch)
    return np.stack([flat * np.cos(yaw), flat * np.sin(yaw), np.sin(pitch)], axis=-1)


def _aim(start: _Start) -> tuple[float, float]:
    """Yaw and pitch from the start to its target; never steeply up or down."""
    x, y, z = start.target - start.eye
    pitch = math.atan2(z, math.hypot(x, y))
    return math.atan2(y, x), min(max(pitch, math.radians(-28)), math.radians(10))


def _still(start: _Start, vector: np.ndarray) -> np.ndarray:
    return np.broadcast_to(vector, (len(start.seconds), 3))


def _orbit(rng: np.random.Generator, start: _Start) -> Track:
    angle = start.reach(rng, (math.radians(12), math.radians(24)), math.radians(80))
    x, y, _ = start.eye - start.target
    turned = math.atan2(y, x) + angle * start.progress
    height = np.full_like(turned, start.eye[2])
    ring = np.stack([np.cos(turned), np.sin(turned)], -1) * math.hypot(x, y)
    eyes = np.column_stack([ring + start.target[:2], height])
    return eyes, start.target - eyes, "right" if angle > 0 else "left"


def _dolly(rng: np.random.Generator, start: _Start) -> Track:
    amount = start.reach(rng, (0.35, 0.8), 2.0)
    yaw, pitch = _aim(start)
    eyes = start.eye + amount * start.progress[:, None] * _sight(yaw, 0.0)
    return eyes, _still(start, _sight(yaw, pitch)), "forward" if amount > 0 else "back"


def _truck(rng: np.random.Generator, start: _Start) -> Track:
    amount = start.reach(rng, (0.35, 0.75), 2.0)
    yaw, pitch = _aim(start)
    # Half of the way lies before the point from which the target was aimed at.
    along = amount * (start.progress - 0.5)
    eyes = start.eye + along[:, None] * _sight(yaw - math.pi / 2, 0.0)
    return eyes, _still(start, _sight(yaw, pitch)), "right" if amount > 0 else "left"


def _pan(rng: np.random.Generator, start: _Start) -> Track:
    angle = start.reach(rng, (math.radians(12), math.radians(24)), math.radians(100))
    yaw, pitch = _aim(start)
    sights = _sight(yaw + angle * (start.progress - 0.5), pitch)
    return _still(start, start.eye), sights, "left" if angle > 0 else "right"


def _tilt(rng: np.random.Generator, start: _Start) -> Track:
    angle = start.reach(rng, (math.radians(8), math.radians(15)), math.radians(42))
    yaw, _ = _aim(start)
    sights = _sight(yaw, math.radians(-9) + angle * (start.progress - 0.5))
    return _still(start, start.eye), sights, "up" if angle > 0 else "down"


def _walk(rng: np.random.Generator, start: _Start) -> Track:
    """Along a bend, looking where it leads, with the sway of steps."""
    t, last = start.seconds, float(start.seconds[-1])
    bend = float(rng.choice([-1, 0, 1])) * min(rng.uniform(0.2, 0.4) * last, 1.2)
    yaw, pitch = _aim(start)
    heading = yaw + bend * start.progress
    distance = min(float(rng.uniform(0.6, 1.0)) * last, 4.0) / max(len(t) - 1, 1)
    steps = distance * _sight((heading[1:] + heading[:-1]) / 2, 0.0)
    eyes = start.eye + np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    beat = 2 * math.pi * STEP_RATE * t
    aside = _sight(heading - math.pi / 2, 0.0)
    eyes = eyes + 0.008 * np.sin(beat / 2)[:, None] * aside
    eyes[:, 2] += 0.012 * np.cos(beat)
    direction = "forward" if bend == 0 else "left" if bend > 0 else "right"
    return eyes, _sight(heading, 0.5 * pitch), direction


MOVES: dict[str, Callable[[np.random.Generator, _Start], Track]] = {
    "orbit": _orbit,
    "dolly": _dolly,
    "truck": _truck,
    "pan": _pan,
    "tilt": _tilt,
    "walk": _walk,
}


def _clear(room: Room, solids: Solids, eyes: np.ndarray) -> bool:
    """Whether the camera stays inside and away from every part."""
    if (np.abs(eyes[:, :2]) > np.asarray(room.size[:2]) / 2 - CLEARANCE).any():
        return False
    return bool(solids.distances(eyes).min() > CLEARANCE)


def _things_seen(room: Room, solids: Solids, poses: np.ndarray, lens: Lens) -> int | None:
    """How many things a coarse grid of rays meets from each of ``poses``, added up; None when
    something stands right before the lens, or when one of the pictures is nearly empty."""
    focal = lens.focal
    columns = np.array([-0.8, -0.4, 0, 0.4, 0.8]) * lens.width / 2 / focal
    rows = np.array([-0.7, 0, 0.7]) * lens.height / 2 / focal
    grid = np.stack([*np.meshgrid(columns, rows), np.ones((3, 5))], axis=-1).reshape(-1, 3)
    rays = np.einsum("vij,rj->vri", poses[:, :3, :3], grid)
    origins = np.broadcast_to(poses[:, None, :3, 3], rays.shape)
    reach, owners = solids.cast(origins.reshape(-1, 3), rays.reshape(-1, 3))
    middle = reach.reshape(len(poses), -1)[:, len(grid) // 2]
    if reach.min() < MIN_VIEW or middle.min() < MIN_MIDDLE_VIEW:
        return None
    counts = []
    for view in owners.reshape(len(poses), -1):
        counts.append(len({i for i in view.tolist() if i >= 0 and not room.things[i].surface}))
    if min(counts) < 2:
        return None
    return sum(counts)
