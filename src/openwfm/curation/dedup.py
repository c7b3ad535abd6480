"""Exact duplicates among clips: the same shot, encoded or trimmed differently."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

# Another encoding moves a thumbnail's time average by a fraction of a level, another trim of a
# moving shot by a few: pairs beyond this need no frame by frame look.
NEAR = 4.0
MAX_SHIFT = 12
MIN_SHARED = 0.75
CHUNK = 512


def find_duplicates(
    signatures: Sequence[UInt8[np.ndarray, "t n"]], distance: float
) -> dict[int, int]:
    """Position of each duplicate → position of the kept clip that it repeats (always earlier).

    Two clips are one when, at the best shift in time, their thumbnails differ by less than
    ``distance`` grey levels on average and the shared part covers 3/4 of the longer clip.
    """
    if not signatures:
        return {}
    means = np.stack([frames.mean(axis=0) for frames in signatures]).astype(np.float32)
    found: dict[int, int] = {}
    for later in range(1, len(signatures)):
        for earlier in _near(means, later):
            if earlier in found:
                continue
            if clip_distance(signatures[earlier], signatures[later]) < distance:
                found[later] = earlier
                break
    return found


def _near(means: Float[np.ndarray, "b n"], row: int) -> list[int]:
    gaps = [
        np.abs(means[start : min(start + CHUNK, row)] - means[row]).mean(axis=1)
        for start in range(0, row, CHUNK)
    ]
    return np.flatnonzero(np.concatenate(gaps) < NEAR).tolist()


def clip_distance(a: UInt8[np.ndarray, "t n"], b: UInt8[np.ndarray, "s n"]) -> float:
    """Smallest mean absolute difference over shifts in time; infinite when too little is shared."""
    needed = MIN_SHARED * max(len(a), len(b))
    best = float("inf")
    for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
        first, second = a[max(shift, 0) :], b[max(-shift, 0) :]
        shared = min(len(first), len(second))
        if shared and shared >= needed:
            gap = np.abs(first[:shared].astype(np.int16) - second[:shared]).mean()
            best = min(best, float(gap))
    return best
