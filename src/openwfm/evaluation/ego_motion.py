"""Where did the car of a clip drive? A probe that reads it from the optical flow of all views.

Structure from motion fails at 80×48 pixels, so the steps are read by ridge regression from flow,
averaged over cells, fitted to true steps of training clips. Its own error on real clips is the
floor; no world can be seen to follow better than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

CELLS = (3, 5)
Views = UInt8[np.ndarray, "v t h w 3"]


def flow_features(views: Views) -> Float[np.ndarray, "s d"]:
    """Mean flow (DIS, Kroeger 2016) in cells of all views, for every step between frames."""
    import cv2

    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    steps = []
    for video in views:
        pictures = np.ascontiguousarray(video)
        grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
        grey = [cv2.resize(frame, None, fx=2, fy=2) for frame in grey]
        flows = [dis.calc(a, b, None) for a, b in zip(grey, grey[1:], strict=False)]
        rows, columns = CELLS
        height, width = grey[0].shape[0] // rows, grey[0].shape[1] // columns
        cut = np.stack(flows)[:, : rows * height, : columns * width] / 2
        cells = cut.reshape(len(flows), rows, height, columns, width, 2).mean((2, 4))
        steps.append(cells.reshape(len(flows), -1))
    return np.concatenate(steps, axis=1).astype(np.float64)


def true_steps(
    points: Float[np.ndarray, "64 3"], headings: Float[np.ndarray, " t"]
) -> Float[np.ndarray, "s 3"]:
    """Forward and left in metres and the turn to the left in radians, of every step between
    frames, in the car's own axes at its beginning. Points and frames are 0.1 s apart."""
    places = np.concatenate((np.zeros((1, 2)), points[: len(headings) - 1, :2]))
    steps = np.diff(places, axis=0)
    cos, sin = np.cos(headings[:-1]), np.sin(headings[:-1])
    ahead = steps[:, 0] * cos + steps[:, 1] * sin
    left = steps[:, 1] * cos - steps[:, 0] * sin
    return np.stack((ahead, left, np.diff(headings)), axis=1)


def headings_of(camera_to_world: Float[np.ndarray, "t 4 4"]) -> Float[np.ndarray, " t"]:
    """Of a camera that looks ahead, to the left, from its first frame on; the world has z up."""
    ahead = camera_to_world[:, :2, 2]
    angles = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
    return np.asarray(angles - angles[0])


def path_of(steps: Float[np.ndarray, "s 3"]) -> Float[np.ndarray, "s 2"]:
    """Steps in the car's own axes put together: places in the axes of the first frame."""
    headings = np.concatenate(([0.0], np.cumsum(steps[:, 2])))[:-1]
    cos, sin = np.cos(headings), np.sin(headings)
    ahead = steps[:, 0] * cos - steps[:, 1] * sin
    left = steps[:, 0] * sin + steps[:, 1] * cos
    return np.cumsum(np.stack((ahead, left), axis=1), axis=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class EgoProbe:
    """Ridge regression on normalised features."""

    mean: Float[np.ndarray, " d"]
    std: Float[np.ndarray, " d"]
    weights: Float[np.ndarray, "d 3"]
    offset: Float[np.ndarray, " 3"]

    @classmethod
    def fit(
        cls, features: Float[np.ndarray, "n d"], steps: Float[np.ndarray, "n 3"], ridge: float
    ) -> EgoProbe:
        """Raises ValueError for counts that differ, or no positive ``ridge`` (a share of n)."""
        if len(features) != len(steps) or not ridge > 0:
            raise ValueError(f"probe: {len(features)} features, {len(steps)} steps, ridge={ridge}")
        mean, std = features.mean(0), features.std(0) + 1e-6
        unit, offset = (features - mean) / std, steps.mean(0)
        gram = unit.T @ unit + ridge * len(unit) * np.eye(unit.shape[1])
        weights = np.linalg.solve(gram, unit.T @ (steps - offset))
        return cls(mean=mean, std=std, weights=weights, offset=offset)

    def path(self, views: Views) -> Float[np.ndarray, "s 2"]:
        """Where the car is after every step, in metres ahead and to the left of its beginning."""
        unit = (flow_features(views) - self.mean) / self.std
        return path_of(unit @ self.weights + self.offset)


def following_error(path: Float[np.ndarray, "s 2"], trajectory: Float[np.ndarray, "64 3"]) -> float:
    """Mean distance in metres between a path and the points that were asked for."""
    return float(np.linalg.norm(path - trajectory[: len(path), :2], axis=1).mean())
