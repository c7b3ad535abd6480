"""Shots whose camera motion is known: exact turns of a camera before natural stills, and worlds.

A still is a picture at infinity. A camera that turns and zooms before it sees it through a
homography, which is applied exactly; things cut from another still move in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from openwfm.extras import require
from openwfm.randomness import numpy_generator
from openwfm.simulation.natural import natural_videos
from openwfm.simulation.physics.config import PhysicsConfig
from openwfm.simulation.render import choose_backend
from openwfm.simulation.rooms.config import RoomsConfig
from openwfm.simulation.worlds import ClipRejectedError, WorldConfig
from openwfm.video import open_video

CLASSES = (
    "static_camera", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out",
    "roll", "handheld", "erratic",
)  # fmt: skip
FPS, NUM_FRAMES, HEIGHT = 24.0, 60, 192
FOCAL = 1.0  # in picture diagonals: 53 degrees from corner to corner
ASPECTS = (4 / 3, 16 / 9, 9 / 16)
# Ranges of what is called by each name; diagonals, scale or degrees a second.
PAN, ZOOM, ROLL = (0.04, 0.4), (0.07, 0.5), (4.0, 40.0)
HANDHELD, ERRATIC, STEADY = (0.03, 0.12), (0.4, 1.0), (0.0, 0.004)
ROOMS = RoomsConfig(
    width=256, height=192, supersample=1, num_frames=48, motions=("dolly", "truck", "pan", "tilt")
)
PHYSICS = PhysicsConfig(width=256, height=192, supersample=1, num_frames=48)
ROOM_LABELS = {
    "left": "pan_left", "right": "pan_right", "up": "tilt_up", "down": "tilt_down",
    "forward": "zoom_in", "back": "zoom_out",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """``frames`` uint8 ``t h w 3``; ``label`` one of CLASSES; ``origin`` who made it, and how;
    ``objects`` the mean share of pixels that show what moves by itself (NaN where unknown)."""

    frames: np.ndarray
    fps: float
    label: str
    origin: str
    objects: float


def warped_shots(num: int, seed: int, half: int) -> Iterator[Shot]:
    """``num`` shots, classes in turn, before stills of the first (0) or second (1) ``half`` of the
    natural videos."""
    stills = natural_stills(half)
    for index in range(num):
        rng = numpy_generator(seed, "camera_shots/warped", index)
        yield warp(rng, CLASSES[index % len(CLASSES)], stills)


def world_shots(num: int, seed: int, config: WorldConfig) -> Iterator[Shot]:
    """The first ``num`` clips of a world that are not rejected: rooms with a known camera path, or
    bodies that move before a camera that does not."""
    world, found, index = config.open(seed, choose_backend()), 0, -1
    try:
        while found < num:
            index += 1
            try:
                clip = world.film(index)
            except ClipRejectedError:
                continue
            found += 1
            motion = str(clip.facts.get("motion", "still"))
            label = ROOM_LABELS[str(clip.facts["direction"])] if config is ROOMS else CLASSES[0]
            yield Shot(
                frames=clip.views["main"],
                fps=float(clip.fps),
                label=label,
                origin=f"{config.name}/{motion}",
                objects=0.0 if config is ROOMS else np.nan,
            )
    finally:
        world.close()


def natural_stills(half: int) -> list[np.ndarray]:
    """Five pictures from each natural video, uint8 ``h w 3``, at least 480 pixels high."""
    cv2 = require("cv2", extra="curation")
    stills = []
    for path in natural_videos():
        with av.open(str(path)) as container:
            total = container.streams.video[0].frames
        wanted = {(half * 5 + place) * total // 10 for place in range(5)}
        with open_video(path) as (decoded, _):
            for index, frame in enumerate(decoded):
                if index in wanted:
                    factor = max(1.0, 480 / frame.shape[0])
                    size = round(frame.shape[1] * factor), round(frame.shape[0] * factor)
                    stills.append(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC))
    return stills


def warp(rng: np.random.Generator, label: str, stills: list[np.ndarray]) -> Shot:
    """What a camera sees that moves as ``label`` says, with up to two things in front."""
    cv2 = require("cv2", extra="curation")
    back, front = (stills[index] for index in rng.choice(len(stills), 2, replace=False))
    height, width = HEIGHT, round(HEIGHT * float(rng.choice(ASPECTS)) / 2) * 2
    path = draw_motion(rng, label)
    diagonal = float(np.hypot(height, width))
    focal = FOCAL * diagonal
    pivot = focal * float(rng.uniform(1.0, 1.6))  # focal length of the still: its sharpness
    things = [_Thing.draw(rng, front, (height, width)) for _ in range(rng.integers(0, 3))]
    noise = float(rng.uniform(0.0, 3.0))
    frames, shares = [], []
    for x, y, zoom, roll, time in path:
        view = _view(back.shape, (height, width), focal, pivot, zoom, (x, y, roll), diagonal)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frame = cv2.warpPerspective(
            back, view, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
        covered = np.zeros((height, width), bool)
        for thing in things:
            covered |= thing.paint(cv2, frame, time)
        grainy = frame + rng.normal(0, noise, frame.shape)
        frames.append(np.clip(np.rint(grainy), 0, 255).astype(np.uint8))
        shares.append(covered.mean())
    return Shot(
        frames=np.stack(frames),
        fps=FPS,
        label=label,
        origin="still/warp",
        objects=float(np.mean(shares)),
    )


def draw_motion(rng: np.random.Generator, label: str) -> np.ndarray:
    """``t 5``: x and y (how far the picture's content has moved, in diagonals), zoom (a factor),
    roll (degrees, clockwise as seen) and seconds, of each frame."""
    time = np.arange(NUM_FRAMES) / FPS
    ease = float(rng.uniform(0, 0.6))
    u = time / time[-1]
    progress = ((1 - ease) * u + ease * u * u * (3 - 2 * u)) * time[-1]
    x, y, scale, roll = np.zeros((4, len(time)))
    sign = {"pan_left": 1, "pan_right": -1, "tilt_up": 1, "tilt_down": -1, "zoom_in": 1}
    way = sign.get(label, -1) * progress
    around = way - way.mean()  # half of the way lies before the middle of the still
    if label.startswith("pan"):
        x, y = rng.uniform(*PAN) * around, rng.normal(0, 0.005) * progress
    elif label.startswith("tilt"):
        x, y = rng.normal(0, 0.005) * progress, rng.uniform(*PAN) * around
    elif label.startswith("zoom"):
        scale = rng.uniform(*ZOOM) * way
    elif label == "roll":
        roll = rng.uniform(*ROLL) * rng.choice([-1, 1]) * progress
    range_ = {"handheld": HANDHELD, "erratic": ERRATIC}.get(label, STEADY)
    shake = shake_of(rng, time, float(rng.uniform(*range_)))
    return np.column_stack(
        [x + shake[0], y + shake[1], np.exp(scale), roll + np.degrees(shake[2]), time]
    )


def shake_of(rng: np.random.Generator, time: np.ndarray, speed: float) -> np.ndarray:
    """x, y (diagonals) and turn (radians) ``3 t``: sums of oscillations from 0.8 to 6 Hz, whose
    root mean square speed is ``speed`` diagonals (and 0.7 ``speed`` radians) a second."""
    rates = rng.uniform(0.8, 6.0, (3, 6, 1))
    phases = rng.uniform(0, 2 * np.pi, (3, 6, 1))
    velocity = np.cos(2 * np.pi * rates * time + phases)
    moved = (np.sin(2 * np.pi * rates * time + phases) / (2 * np.pi * rates)).sum(axis=1)
    size = np.sqrt((velocity.sum(axis=1) ** 2).mean(axis=1, keepdims=True))
    amount = np.array([[0.7], [0.7], [0.5]]) * speed
    return (moved - moved[:, :1]) / size * amount


def _view(
    source: tuple[int, ...],
    size: tuple[int, int],
    focal: float,
    pivot: float,
    zoom: float,
    motion: tuple[float, float, float],
    diagonal: float,
) -> np.ndarray:
    """Homography from a pixel of the view to one of the still."""
    x, y, roll = motion
    yaw, pitch, turn = -x * diagonal / focal, y * diagonal / focal, -np.radians(roll)
    cy, sy, cp, sp, ct, st = (f(a) for a in (yaw, pitch, turn) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[ct, -st, 0], [st, ct, 0], [0, 0, 1]])
    lens = _lens(focal * zoom, size)
    still = _lens(pivot, (source[0], source[1]))
    return still @ about_y @ about_x @ about_z @ np.linalg.inv(lens)


def _lens(focal: float, size: tuple[int, int]) -> np.ndarray:
    return np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1.0]])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Thing:
    """An ellipse cut from a still; it starts at ``start`` and moves by ``velocity`` pixels/s."""

    picture: np.ndarray
    start: np.ndarray
    velocity: np.ndarray

    @staticmethod
    def draw(rng: np.random.Generator, still: np.ndarray, size: tuple[int, int]) -> _Thing:
        diagonal = float(np.hypot(*size))
        radii = np.rint(rng.uniform(0.06, 0.17, 2) * diagonal).astype(int)
        rows, columns = 2 * radii
        top = int(rng.integers(0, still.shape[0] - rows))
        left = int(rng.integers(0, still.shape[1] - columns))
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.4) * diagonal
        velocity = speed * np.array([np.sin(angle), np.cos(angle)])
        middle = np.array(size) * rng.uniform(0.25, 0.75, 2)
        start = middle - velocity * NUM_FRAMES / FPS / 2 - radii
        picture = still[top : top + rows, left : left + columns]
        return _Thing(picture=picture, start=start, velocity=velocity)

    def paint(self, cv2: Any, frame: np.ndarray, time: float) -> np.ndarray:
        """Into the frame, at fractions of pixels; returns where."""
        rows, columns = self.picture.shape[:2]
        y, x = np.mgrid[:rows, :columns]
        inside = ((2 * y + 1) / rows - 1) ** 2 + ((2 * x + 1) / columns - 1) ** 2 < 1
        top, left = self.start + self.velocity * time
        matrix = np.array([[1, 0, left], [0, 1, top]])
        size = frame.shape[1], frame.shape[0]
        covered = cv2.warpAffine(inside.astype(np.float32), matrix, size) > 0.5
        moved = cv2.warpAffine(self.picture, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        frame[covered] = moved[covered]
        return covered
