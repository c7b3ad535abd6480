"""Camera paths: still, or one slow movement at a constant rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MOTIONS = ("still", "orbit", "pan", "dolly")
FOV_DEGREES = 45.0


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera that looks at a point: metres and degrees, as MuJoCo's free camera."""

    target: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Right, up and forward of the picture as unit vectors of the world."""
        a, e = math.radians(self.azimuth), math.radians(self.elevation)
        forward = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
        right = np.array([math.sin(a), -math.cos(a), 0.0])
        return right, np.cross(right, forward), forward

    def pose(self) -> np.ndarray:
        """Camera-to-world ``4 4``, OpenCV axes."""
        right, up, forward = self.axes()
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, -up, forward
        pose[:3, 3] = np.asarray(self.target) - self.distance * forward
        return pose

    def project(self, point: np.ndarray) -> np.ndarray:
        """Picture coordinates of a world point: x right, y up, both in [-1, 1] inside the frame."""
        right, up, forward = self.axes()
        offset = np.asarray(point) - (np.asarray(self.target) - self.distance * forward)
        scale = math.tan(math.radians(FOV_DEGREES / 2)) * (offset @ forward)
        return np.array([offset @ right, offset @ up]) / scale


@dataclass(frozen=True, kw_only=True)
class CameraPath:
    """``rate`` is degrees a second for an orbit, metres a second for a pan or a dolly.

    A positive rate orbits anticlockwise seen from above, pans to the right, moves closer.
    """

    start: View
    motion: str
    rate: float

    def at(self, seconds: float) -> View:
        start, moved = self.start, self.rate * seconds
        target, distance, azimuth = start.target, start.distance, start.azimuth
        if self.motion == "orbit":
            azimuth += moved
        elif self.motion == "dolly":
            distance -= moved
        elif self.motion == "pan":
            right, _, _ = start.axes()
            x, y, z = np.asarray(target) + moved * right
            target = (float(x), float(y), float(z))
        return View(target=target, distance=distance, azimuth=azimuth, elevation=start.elevation)

    def sentence(self) -> str:
        if self.motion == "orbit":
            return "the camera slowly circles the table"
        if self.motion == "pan":
            return f"the camera slides slowly to the {'right' if self.rate > 0 else 'left'}"
        if self.motion == "dolly":
            return "the camera moves slowly " + ("closer" if self.rate > 0 else "away")
        return "the camera is still"


def draw_camera(rng: np.random.Generator, motion: str, height: float) -> CameraPath:
    """A path of ``motion`` around a table at the origin; ``height`` is that of the action."""
    sign = float(rng.choice([-1, 1]))
    rates = {"still": 0.0, "orbit": rng.uniform(4, 10), "pan": rng.uniform(0.15, 0.35)}
    rate = rates.get(motion, rng.uniform(0.2, 0.5))
    start = View(
        target=(float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.2, 0.2)), 0.3 + height),
        distance=float(rng.uniform(7.2, 8.6)) + 0.6 * height,
        azimuth=float(rng.uniform(0, 360)),
        elevation=float(rng.uniform(-46, -24)),
    )
    return CameraPath(start=start, motion=motion, rate=sign * rate)
