"""Blur, blocking and noise of one picture, from its pixels alone.

All three are in units that do not depend on what the picture shows: pixels, grey levels, grey
levels. A source of at most 640 pixels is judged at its own resolution, a larger one at 640.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

MAX_BLUR = 8.0
SMOOTH, AGAIN = 0.7, 1.5  # sigmas in pixels: against noise, and of the second blur
DIFFERENCE = 1 / 3  # pixels²: the blur that a difference over two pixels is itself
EDGES = 5.0, 2.0  # grey levels a pixel, of a smoothed picture; the second if the first finds none
FLAT = 3.0  # grey levels: the standard deviation of a picture that shows nothing
SMALLEST = 24  # pixels
SHARPEST = 0.35  # the share of tiles with edges that decides
MIN_EDGES, MIN_TILES = 4, 3
BLOCKS = (8, 16)
LARGEST_JUMP = 16.0  # grey levels: what is larger is an edge of the picture
NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
NOISE_TILE, FLATTEST = 16, 0.2
CLIPPED = (6, 249)  # noise does not show in tiles darker or brighter than this


def blur_width(cv2: Any, grey: UInt8[np.ndarray, "h w"]) -> float:
    """Standard deviation in pixels, 0 to 8, of the blur of the *sharpest* parts of the picture:
    the root mean square of both directions.

    A step edge under a Gaussian blur of width s has a gradient proportional to 1/s, so blurring it
    again by s0 divides the gradient by R = sqrt(1 + (s0/s)²) (Zhuo and Sim, "Defocus map
    estimation from a single image", 2011, eq. 4). R is taken per tile, along rows and columns
    apart, so smear in one direction counts too; the sharpest third of the tiles that have edges
    decides, so a blurred background does not count. 0 for a flat picture and for one of less than
    24 pixels, which cannot be judged; 8 for one that has shapes but not a single edge.
    """
    if min(grey.shape) < SMALLEST or grey.std() < FLAT:
        return 0.0
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), SMOOTH)
    variances = [_variance_along_rows(cv2, picture) for picture in (smooth, smooth.T.copy())]
    found = [variance for variance in variances if variance is not None]
    return float(np.sqrt(np.mean(found))) if found else MAX_BLUR


def _variance_along_rows(cv2: Any, smooth: Float[np.ndarray, "h w"]) -> float | None:
    """In pixels²; None where there are too few edges to tell."""
    again = cv2.GaussianBlur(smooth, (0, 0), sigmaX=AGAIN, sigmaY=1e-3)
    before, after = (np.abs(p[:, 2:] - p[:, :-2]) / 2 for p in (smooth, again))
    peak = before >= cv2.dilate(before, np.ones((1, 5), np.uint8))
    tile = int(np.clip(min(smooth.shape) // 12, 6, 32))
    for edge in EDGES:
        edges = (peak & (before > edge)).astype(np.float32)
        counts, first, second = (
            _tile_sums(field, tile) for field in (edges, edges * before, edges * after)
        )
        enough = counts >= MIN_EDGES
        if enough.sum() >= MIN_TILES:
            ratio = np.maximum(first[enough] / np.maximum(second[enough], 1e-6), 1 + 1e-6)
            variances = AGAIN**2 / (ratio**2 - 1) - SMOOTH**2 - DIFFERENCE
            return float(np.clip(np.quantile(variances, SHARPEST), 0, MAX_BLUR**2))
    return None


def _tile_sums(field: Float[np.ndarray, "h w"], tile: int) -> Float[np.ndarray, "y x"]:
    h, w = (side // tile for side in field.shape)
    return field[: h * tile, : w * tile].reshape(h, tile, w, tile).sum(axis=(1, 3))


def blocking(grey: UInt8[np.ndarray, "h w"]) -> float:
    """Grey levels by which the borders of 8×8 or 16×16 blocks stand out, 0 to 16.

    The jump between two pixels beyond what its neighbours lead one to expect, by column (and row),
    against that of other columns; the grid may start anywhere. Most lines of the grid must show it
    (a median), so edges of the picture that happen to lie on the grid do not count.
    """
    picture = grey.astype(np.float32)
    return max(_grid_jump(picture, side) for side in BLOCKS)


def _grid_jump(picture: Float[np.ndarray, "h w"], side: int) -> float:
    """The smaller of both directions: a coder's blocks have four sides, a fence has not."""
    jumps = []
    for rows in (picture, picture.T):
        steps = np.abs(np.diff(rows, axis=1))
        beyond = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
        profile = np.minimum(beyond, LARGEST_JUMP).mean(axis=0)
        if len(profile) < 3 * side:
            return 0.0
        phases = np.array([np.median(profile[phase::side]) for phase in range(side)])
        jumps.append(float(phases.max() - np.median(phases)))
    return max(0.0, min(jumps))


def noise_level(cv2: Any, grey: UInt8[np.ndarray, "h w"]) -> float:
    """Standard deviation in grey levels of the noise in the flattest parts of the picture.

    The mean absolute value of Immerkær's operator ("Fast noise variance estimation", 1996), which
    planes and level edges do not excite, in the flattest fifth of the 16×16 tiles (a median).
    """
    picture = grey.astype(np.float32)
    tiles = [
        _tiles(field)
        for field in (
            cv2.filter2D(picture, -1, NOISE_KERNEL, borderType=cv2.BORDER_REFLECT_101),
            cv2.GaussianBlur(picture, (0, 0), 2.0),
        )
    ]
    mean = tiles[1].mean(axis=1)
    usable = (mean > CLIPPED[0]) & (mean < CLIPPED[1])
    if not usable.any():
        return 0.0
    response, structure = tiles[0][usable], tiles[1][usable].std(axis=1)
    flattest = np.argsort(structure, kind="stable")[: max(1, round(FLATTEST * len(structure)))]
    spread = np.median(np.abs(response[flattest]).mean(axis=1))
    return float(spread * np.sqrt(np.pi / 2) / 6)


def _tiles(field: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "n p"]:
    side = min(NOISE_TILE, *field.shape)
    h, w = (length // side for length in field.shape)
    cut = field[: h * side, : w * side].reshape(h, side, w, side)
    return cut.transpose(0, 2, 1, 3).reshape(h * w, side * side)
