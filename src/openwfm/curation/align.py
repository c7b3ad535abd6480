"""Are two clips the same film? Their thumbnails, aligned in time, brightness and contrast, say so.

Embeddings find candidates; two takes of one scene are candidates too. Thumbnails tell them apart by
what changes in time: a copy changes at the same places and moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

MIN_SHARED = 0.75  # of the longer clip
# Grey levels of an 8×8 thumbnail. Below STILL nothing is seen to move; below FLAT there is no
# picture whose pattern could be compared, so the level itself is.
STILL, FLAT, SAME_LEVEL = 0.6, 2.0, 8.0
SAME_PATTERN, SAME_MOTION = 0.97, 0.75


# Share of a copy vector that says where things change, and the least lengths (grey levels) that
# count in full: fainter patterns and changes are mostly noise of coding.
CHANGE_SHARE, FULL_PATTERN, FULL_CHANGE = 0.4, 16.0, 9.6


def copy_vector(thumbnails: UInt8[np.ndarray, "t n"]) -> Float[np.ndarray, " d"]:
    """Unit vector (2 n + 2 wide) that copies share through encoding, scaling, light and trimming.

    The mean picture without its level, and how much each place changes in time; each is scaled to
    at most length 1 and completed to it by one coordinate, so that two flat, still clips agree.
    """
    film = thumbnails.astype(np.float32)
    mean = film.mean(axis=0)
    pattern, change = mean - mean.mean(), (film - mean).std(axis=0)
    parts = []
    for part, full, share in (
        (pattern, FULL_PATTERN, 1 - CHANGE_SHARE),
        (change, FULL_CHANGE, CHANGE_SHARE),
    ):
        scaled = part / max(float(np.linalg.norm(part)), full)
        rest = np.sqrt(max(0.0, 1.0 - float(scaled @ scaled)))
        parts.append(np.sqrt(share) * np.append(scaled, rest))
    return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """At the best ``shift`` (frames by which the second clip starts later than the first).

    ``pattern``: correlation of the mean pictures; ``motion``: correlation of what differs from them
    in time. Both are 1 where there is nothing to compare on either side, and -1 where there is on
    one side only or too little is shared.
    """

    shift: int
    pattern: float
    motion: float

    @property
    def same(self) -> bool:
        return self.pattern >= SAME_PATTERN and self.motion >= SAME_MOTION


def align(
    first: UInt8[np.ndarray, "t n"], second: UInt8[np.ndarray, "s n"], *, mirrored: bool = False
) -> Alignment:
    """Best alignment of two signatures; ``mirrored`` also tries the second one flipped sideways.

    Shifts are tried as far as the shared part still covers 3/4 of the longer clip.
    """
    a = first.astype(np.float32)
    versions = [second.astype(np.float32)]
    if mirrored:
        side = round(second.shape[1] ** 0.5)
        flipped = versions[0].reshape(-1, side, side)[:, :, ::-1]
        versions.append(flipped.reshape(second.shape))
    needed = int(np.ceil(MIN_SHARED * max(len(a), len(second))))
    best = Alignment(shift=0, pattern=-1.0, motion=-1.0)
    for b in versions:
        for shift in _shifts(len(a), len(b), needed):
            x, y = a[max(shift, 0) :], b[max(-shift, 0) :]
            shared = min(len(x), len(y))
            pattern, motion = _agreement(x[:shared], y[:shared])
            if min(pattern, motion) > min(best.pattern, best.motion):
                best = Alignment(shift=shift, pattern=pattern, motion=motion)
    return best


def _shifts(first: int, second: int, needed: int) -> list[int]:
    """Those that leave ``needed`` frames shared, the smallest first."""
    found = [
        shift
        for shift in range(needed - second, first - needed + 1)
        if min(first - max(shift, 0), second - max(-shift, 0)) >= needed
    ]
    return sorted(found, key=abs)


def _agreement(x: Float[np.ndarray, "t n"], y: Float[np.ndarray, "t n"]) -> tuple[float, float]:
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    flat_x, flat_y = mean_x.std() < FLAT, mean_y.std() < FLAT
    if flat_x or flat_y:
        level = abs(float(mean_x.mean() - mean_y.mean()))
        pattern = 1.0 if flat_x and flat_y and level < SAME_LEVEL else -1.0
    else:
        pattern = _correlation(mean_x, mean_y)
    change_x, change_y = x - mean_x, y - mean_y
    still_x, still_y = float(change_x.std()) < STILL, float(change_y.std()) < STILL
    if still_x and still_y:
        return pattern, 1.0
    return pattern, _correlation(change_x, change_y)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's, 0 when one of them does not vary."""
    x, y = x.ravel() - x.mean(), y.ravel() - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length > 1e-6 else 0.0
