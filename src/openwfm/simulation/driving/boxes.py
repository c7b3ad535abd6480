"""What a view shows of the other vehicles: boxes in the picture and how much is visible."""

from __future__ import annotations

import numpy as np

from openwfm.data.members import CameraTrack
from openwfm.simulation.lens import project

NOTHING = -1  # coordinates of a box that is not there
# Points inside a unit box (half sides 1) that stand for a vehicle's volume.
SAMPLES = np.stack(
    np.meshgrid(np.linspace(-0.9, 0.9, 5), [-0.8, 0.0, 0.8], [-0.7, 0.0, 0.6], indexing="ij"),
    axis=-1,
).reshape(-1, 3)


def corners(centre: np.ndarray, size: np.ndarray, yaw: float | np.ndarray) -> np.ndarray:
    """The eight corners of boxes ``… 3`` (centre and full size, metres), ``… 8 3``."""
    unit = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"), -1).reshape(-1, 3)
    return inside(centre, size, yaw, unit)


def inside(
    centre: np.ndarray, size: np.ndarray, yaw: float | np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """Points ``k 3`` of a unit box (half sides 1) in boxes ``… 3``, as world points ``… k 3``."""
    local = unit * np.asarray(size)[..., None, :] / 2
    cos, sin = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return np.stack([x, y, local[..., 2]], axis=-1) + np.asarray(centre)[..., None, :]


def picture_boxes(labels: np.ndarray, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of ``count`` vehicles whose labels start at ``first``, in masks ``t h w``: int16 ``t n 4``
    (left, top, right, bottom edges in pixels, NOTHING where none is seen) and int32 ``t n``
    numbers of pixels."""
    frames, height, width = labels.shape
    boxes = np.full((frames, count, 4), NOTHING, np.int16)
    pixels = np.zeros((frames, count), np.int32)
    for frame in range(frames):
        numbers = np.bincount(labels[frame].ravel(), minlength=first + count)[first:]
        pixels[frame] = numbers[:count]
        for index in np.flatnonzero(pixels[frame]):
            rows, columns = np.nonzero(labels[frame] == first + index)
            boxes[frame, index] = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return boxes, pixels


def visibility(
    labels: np.ndarray, track: CameraTrack, centres: np.ndarray, sizes: np.ndarray,
    yaws: np.ndarray, first: int,
) -> np.ndarray:  # fmt: skip
    """float16 ``t n``: the share of points in a vehicle's volume that lie in the picture where it
    is seen; what is hidden by others or cut off by the picture's edge does not count."""
    frames, height, width = labels.shape
    shares = np.zeros(centres.shape[:2], np.float16)
    count = centres.shape[1]
    names = first + np.arange(count)[:, None]
    for frame in range(frames if count else 0):
        points = inside(centres[frame], sizes[frame], yaws[frame], SAMPLES)
        seen = project(points.reshape(-1, 3), track.intrinsics[frame], track.camera_to_world[frame])
        column, row, depth = seen.reshape(count, -1, 3).transpose(2, 0, 1)
        ok = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        x, y = (np.where(ok, value, 0).astype(int) for value in (column, row))
        shares[frame] = (ok & (labels[frame][y, x] == names)).mean(axis=1)
    return shares
