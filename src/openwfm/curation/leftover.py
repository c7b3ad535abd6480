"""What a camera's motion leaves over: depth of the scene, or things that move by themselves.

A camera that only turns or zooms moves the whole picture as a plane. If it travels, near things
move faster than far ones, but along the same lines (the epipolar ones): static scenes may be slower
or faster than the fitted plane, never sideways, and never the other way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex

NOISE, SHARE = 0.7, 0.15  # a displacement is known to this many pixels, and to this part of itself
STILL = 1.0  # pixels: by a smaller motion of the camera, all that moves is an object
TURNS = 0.3  # pixels: by a smaller one, no depth is seen
NEARER = 3.0  # static things move at most so many times as fast as the fitted plane


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """``objects`` is the share of the points that no static scene can explain; ``parallax`` how
    much the motion along the camera's own lines differs from a plane's (medians: things that
    cover less than half of the picture do not count), as a share of the motion's speed; 0 when
    the camera hardly moves."""

    objects: float
    parallax: float


def leftover(
    moved: Complex[np.ndarray, " p"], planar: Complex[np.ndarray, " p"], pixel: float
) -> Leftover:
    """``moved`` are displacements, ``planar`` those of the fitted plane, ``pixel`` a pixel's size,
    all in one unit. At least one point."""
    speed = np.abs(planar)
    towards = np.where(speed > 0, planar, 1.0) / np.where(speed > 0, speed, 1.0)
    flow = moved * towards.conj()
    along, across, rest = flow.real - speed, np.abs(flow.imag), np.abs(moved - planar)
    slack = NOISE * pixel + SHARE * speed
    impossible = (across > slack) | (flow.real < -slack) | (flow.real > NEARER * speed + slack)
    objects = np.where(speed < STILL * pixel, rest > NOISE * pixel, impossible)
    typical = float(np.median(speed))
    depth = max(0.0, float(np.median(np.abs(along)) - np.median(across)))
    parallax = depth / max(typical, STILL * pixel) if typical > TURNS * pixel else 0.0
    return Leftover(objects=float(objects.mean()), parallax=parallax)
