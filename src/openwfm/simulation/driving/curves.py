"""Plane curves that a car can follow: points, headings and curvatures by arc length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

STEP = 0.1  # metres between samples
RAMP = 0.25  # share of a turn in which the curvature grows, and again in which it falls


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """``points`` ``n 2`` metres, ``heading`` ``n`` radians (continuous), ``curvature`` ``n`` 1/m
    (left is positive), ``arc`` ``n`` metres from 0."""

    points: np.ndarray
    heading: np.ndarray
    curvature: np.ndarray
    arc: np.ndarray

    @property
    def length(self) -> float:
        return float(self.arc[-1])

    def at(self, arc: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points ``… 2``, headings and curvatures; straight on beyond the ends."""
        arc = np.asarray(arc, np.float64)
        inside = np.clip(arc, 0, self.length)
        heading = np.interp(inside, self.arc, self.heading)
        curvature = np.where(arc == inside, np.interp(inside, self.arc, self.curvature), 0.0)
        axes = [np.interp(inside, self.arc, self.points[:, axis]) for axis in (0, 1)]
        ahead = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
        return np.stack(axes, axis=-1) + (arc - inside)[..., None] * ahead, heading, curvature

    def reversed(self) -> Curve:
        return Curve(
            points=self.points[::-1],
            heading=self.heading[::-1] + math.pi,
            curvature=-self.curvature[::-1],
            arc=self.length - self.arc[::-1],
        )

    def part(self, start: float, end: float) -> Curve:
        """From arc length ``start`` to ``end``, both on the curve."""
        between = self.arc[(self.arc > start + 1e-6) & (self.arc < end - 1e-6)]
        arc = np.concatenate([[start], between, [end]])
        points, heading, curvature = self.at(arc)
        return Curve(points=points, heading=heading, curvature=curvature, arc=arc - start)

    def shifted(self, offset: np.ndarray | float) -> Curve:
        """The curve ``offset`` metres to the left (one number, or a smooth function as ``n``)."""
        offset = np.broadcast_to(np.asarray(offset, np.float64), self.arc.shape)
        normal = np.stack([-np.sin(self.heading), np.cos(self.heading)], axis=-1)
        points = self.points + offset[:, None] * normal
        along = 1 - self.curvature * offset
        slope = np.gradient(offset, self.arc)
        arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        heading = self.heading + np.arctan2(slope, along)
        bend = self.curvature + np.gradient(np.arctan2(slope, along), self.arc)
        return Curve(
            points=points, heading=heading, curvature=bend / np.hypot(along, slope), arc=arc
        )


def bent(start: np.ndarray, heading: float, curvature: np.ndarray, step: float = STEP) -> Curve:
    """From ``start`` with the given curvature at samples ``step`` metres apart (midpoint rule)."""
    turned = np.concatenate([[0.0], np.cumsum((curvature[1:] + curvature[:-1]) / 2) * step])
    headings = heading + turned
    middle = headings[:-1] + (curvature[:-1] + curvature[1:]) / 4 * step
    steps = step * np.stack([np.cos(middle), np.sin(middle)], axis=-1)
    points = start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    arc = step * np.arange(len(curvature))
    return Curve(points=points, heading=headings, curvature=curvature, arc=arc)


def joined(*curves: Curve) -> Curve:
    """Curves end to end; headings are unwrapped."""
    arc, start = [], 0.0
    for index, curve in enumerate(curves):
        arc.append(start + (curve.arc[1:] if index else curve.arc))
        start += curve.length
    rest = [[c.points, c.heading, c.curvature] for c in curves]
    points, heading, curvature = (
        np.concatenate([array[1:] if index else array for index, array in enumerate(arrays)])
        for arrays in zip(*rest, strict=True)
    )
    return Curve(
        points=points, heading=np.unwrap(heading), curvature=curvature, arc=np.concatenate(arc)
    )


def quarter_turn(start: np.ndarray, heading: float, reach: float, side: int) -> Curve:
    """A turn of 90 degrees to the left (``side`` 1) or right (-1), ``reach`` metres ahead and as
    many sideways; the curvature rises and falls linearly, as a steering wheel is turned."""
    share = np.linspace(0, 1, 401)
    profile = np.minimum(1, np.minimum(share, 1 - share) / RAMP) * (math.pi / 2) / (1 - RAMP)
    unit = bent(np.zeros(2), 0.0, profile, 1 / 400)
    length = reach / unit.points[-1, 0]
    curve = bent(start, heading, side * profile / length, length / 400)
    ahead = np.array([math.cos(heading), math.sin(heading)])
    left = np.array([-ahead[1], ahead[0]])
    # The midpoint rule misses the corner by a hair: it ends where it must, exactly.
    missing = start + reach * (ahead + side * left) - curve.points[-1]
    points = curve.points + share[:, None] * missing
    return Curve(points=points, heading=curve.heading, curvature=curve.curvature, arc=curve.arc)
