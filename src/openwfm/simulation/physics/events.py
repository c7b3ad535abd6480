"""What a recording shows, as yes or no and as numbers: the ground that captions stand on."""

from __future__ import annotations

import numpy as np

from openwfm.simulation.bodies import Body, bounding_radius
from openwfm.simulation.physics.recording import FLOOR, Recording

MOVED = 0.05  # metres
ROSE = 0.03
TIPPED = 35.0  # degrees
LOST = 0.03  # metres of height


def drop(recording: Recording, body: int) -> float:
    """Metres of height lost between the first frame and the lowest."""
    heights = recording.positions[:, body, 2]
    return float(heights[0] - heights.min())


def rise(recording: Recording, body: int) -> float:
    """Metres gained above the first frame."""
    heights = recording.positions[:, body, 2]
    return float(heights.max() - heights[0])


def landing(recording: Recording, body: int) -> int | None:
    """The first frame in which it touches the floor, unless it lay there from the start."""
    frame = recording.first_contact(body, FLOOR)
    return None if frame == 0 else frame


def bounce_height(recording: Recording, body: int) -> float:
    """Metres that its centre rises again after it first landed."""
    landed = landing(recording, body)
    if landed is None:
        return 0.0
    after = recording.positions[landed:, body, 2]
    return float((after - np.minimum.accumulate(after)).max())


def displacement(recording: Recording, body: int) -> np.ndarray:
    """From the first frame to the last, ``3``."""
    path = recording.positions[:, body]
    return np.asarray(path[-1] - path[0])


def moves(recording: Recording, body: int) -> bool:
    path = recording.positions[:, body]
    return bool(np.linalg.norm(path - path[0], axis=-1).max() > MOVED)


def rolls(recording: Recording, body: int, shape: Body) -> bool:
    """It turns about as fast as something that rolls at its speed, and does not slide."""
    speed = np.linalg.norm(recording.velocities[:, body], axis=-1).mean()
    spin = np.linalg.norm(recording.spins[:, body], axis=-1).mean()
    return bool(spin * bounding_radius(shape.shape, shape.size) > 0.5 * speed)


def tilt(recording: Recording, body: int) -> np.ndarray:
    """Degrees ``t`` between the body's own z axis now and at the first frame."""
    axis = recording.axes(body)
    return np.asarray(np.degrees(np.arccos(np.clip(axis @ axis[0], -1, 1))))


def tipping(recording: Recording, body: int) -> int | None:
    """The first frame in which it leans by more than TIPPED from upright."""
    lean = np.degrees(np.arccos(np.clip(recording.axes(body)[:, 2], -1, 1)))
    frames = np.flatnonzero(lean > TIPPED)
    return int(frames[0]) if len(frames) else None


def falls_off(recording: Recording, body: int) -> bool:
    """A storey that sank or turned over."""
    return drop(recording, body) > LOST or tipping(recording, body) is not None


def crossings(recording: Recording, body: int) -> int:
    """How often it passes the lowest line of a trough along y."""
    side = np.sign(recording.positions[:, body, 0])
    return int((side[1:] * side[:-1] < 0).sum())


def board_angle(recording: Recording, board: int) -> np.ndarray:
    """Degrees ``t`` by which the +x end of a seesaw stands above the other."""
    return np.asarray(np.degrees(np.arcsin(np.clip(recording.axes(board, 0)[:, 2], -1, 1))))


def precessed(recording: Recording, wheel: int) -> float:
    """Degrees by which the axle went round, anticlockwise seen from above."""
    path = recording.positions[:, wheel]
    azimuth = np.unwrap(np.arctan2(path[:, 1], path[:, 0]))
    return float(np.degrees(azimuth[-1] - azimuth[0]))


def meeting(recording: Recording, count: int) -> tuple[int, int] | None:
    """The first two of the first ``count`` bodies that touch and did not at the start."""
    contacts = recording.contacts
    pairs = contacts[(contacts[:, 2] >= 0) & (contacts[:, 1] < count)]
    touching = {(int(a), int(b)) for frame, a, b in pairs if frame == 0}
    for _, a, b in pairs:
        if (int(a), int(b)) not in touching:
            return int(b), int(a)
    return None
