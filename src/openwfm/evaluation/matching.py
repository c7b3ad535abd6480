"""Matches between small pictures, for epipolar errors.

At 80×48 pixels about half of SIFT's few matches across a 55° turn are wrong. What works there:
corners of one picture, looked for in the other one turned into the first one's axes (the cameras'
rotation is known), by normalised correlation in a window that is square, so that a wrong match has
no reason to lie on the epipolar line. From frame to frame corners are followed by Lucas and
Kanade's flow, forwards and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from openwfm.evaluation.metrics.epipolar import fundamental_of, on_canvas, sampson

UPSCALE = 4
PATCH, REACH = 10, 28  # half a patch and how far is looked, in pixels of the enlarged picture
CORRELATION = 0.6
MIN_MATCHES = 12  # to fit a fundamental matrix
STILL = 0.5  # pixels of the enlarged picture; below it nothing moves and F is not defined

Picture = UInt8[np.ndarray, "h w 3"]


def enlarged(picture: Picture) -> UInt8[np.ndarray, "H W"]:
    """Grey, ``UPSCALE`` times as large."""
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    size = (grey.shape[1] * UPSCALE, grey.shape[0] * UPSCALE)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC))


def across(
    one: Picture,
    two: Picture,
    cameras: tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]],
    relative: Float[np.ndarray, "4 4"],
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """Matches between two views at one time, in their own pixels. ``relative`` is from the first
    camera's axes to the second's."""
    import cv2

    first, second = enlarged(one), enlarged(two)
    k1, k2 = (_centred(k) for k in cameras)
    turn = k2 @ relative[:3, :3] @ np.linalg.inv(k1)
    size = (first.shape[1], first.shape[0])
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    warped = cv2.warpPerspective(second, turn, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.warpPerspective(np.full_like(second, 255), turn, size, flags=flags)
    rows, columns = np.mgrid[: size[1], : size[0]]
    ahead = turn[2, 0] * columns + turn[2, 1] * rows + turn[2, 2] > 1e-6
    kernel = np.ones((2 * PATCH + 1, 2 * PATCH + 1), np.uint8)
    valid = cv2.erode(
        ((seen == 255) & ahead).astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )  # fmt: skip
    corners = cv2.goodFeaturesToTrack(first, 40, 0.02, 6, mask=valid)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for x, y in [] if corners is None else corners[:, 0].astype(int):
        place = _best(first, warped, valid, x, y)
        if place is not None:
            target = turn @ np.array([*place, 1.0])
            found.append((np.array([x, y], float), target[:2] / target[2]))
    pairs = np.array(found, float).reshape(-1, 2, 2)
    own = (pairs + 0.5) / UPSCALE
    return own[:, 0], own[:, 1]


def _best(
    first: np.ndarray, warped: np.ndarray, valid: np.ndarray, x: int, y: int
) -> tuple[int, int] | None:
    """Where the patch around a corner is found again; None where it is not."""
    import cv2

    left, top = max(x - REACH, PATCH), max(y - REACH, PATCH)
    right = min(x + REACH, first.shape[1] - 1 - PATCH)
    bottom = min(y + REACH, first.shape[0] - 1 - PATCH)
    patch = first[y - PATCH : y + PATCH + 1, x - PATCH : x + PATCH + 1]
    area = warped[top - PATCH : bottom + PATCH + 1, left - PATCH : right + PATCH + 1]
    score = cv2.matchTemplate(area, patch, cv2.TM_CCOEFF_NORMED)
    score = np.where(valid[top : bottom + 1, left : right + 1] > 0, score, -1.0)
    row, column = np.unravel_index(int(np.nanargmax(score)), score.shape)
    if not score[row, column] >= CORRELATION:
        return None
    return left + int(column), top + int(row)


def _centred(camera: np.ndarray) -> np.ndarray:
    """For an enlarged picture whose coordinates start at a pixel's centre, as OpenCV's do."""
    camera = np.diag([UPSCALE, UPSCALE, 1.0]) @ camera
    camera[:2, 2] -= 0.5
    return np.asarray(camera)


def cross_view_error(
    one: Picture,
    two: Picture,
    cameras: tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]],
    relative: Float[np.ndarray, "4 4"],
) -> tuple[float, int]:
    """Median Sampson error on the canvas under the known cameras (NaN without matches), and how
    many matches there are."""
    x, y = across(one, two, cameras, relative)
    if not len(x):
        return np.nan, 0
    error = float(np.median(sampson(x, y, fundamental_of(*cameras, relative))))
    return on_canvas(error, one.shape[1], one.shape[0]), len(x)


def temporal_error(before: Picture, after: Picture) -> tuple[float, int]:
    """Median Sampson error on the canvas between two frames of a view, under the F that fits them
    (MAGSAC); all matches count, not the inliers alone. NaN where too few move."""
    import cv2

    one, two = enlarged(before), enlarged(after)
    corners = cv2.goodFeaturesToTrack(one, 100, 0.01, 6)
    if corners is None or len(corners) < MIN_MATCHES:
        return np.nan, 0
    there, ok = _followed(one, two, corners)
    back, ok_back = _followed(two, one, there)
    kept = (ok[:, 0] & ok_back[:, 0]).astype(bool)
    kept &= np.linalg.norm(back - corners, axis=2)[:, 0] < 1.0
    x, y = corners[kept, 0].astype(float), there[kept, 0].astype(float)
    if len(x) < MIN_MATCHES or np.median(np.linalg.norm(y - x, axis=1)) < STILL:
        return np.nan, len(x)
    fitted, _ = cv2.findFundamentalMat(x, y, cv2.USAC_MAGSAC, 1.0, 0.99, 1000)
    if fitted is None or fitted.shape != (3, 3):
        return np.nan, len(x)
    error = float(np.median(sampson(x, y, fitted))) / UPSCALE
    return on_canvas(error, before.shape[1], before.shape[0]), len(x)


def _followed(one: np.ndarray, two: np.ndarray, corners: np.ndarray) -> tuple[Any, Any]:
    """Where corners are in the next picture, and whether each was found."""
    import cv2

    start = np.zeros_like(corners)
    there, ok, _ = cv2.calcOpticalFlowPyrLK(one, two, corners, start, winSize=(15, 15), maxLevel=3)
    return there, ok
