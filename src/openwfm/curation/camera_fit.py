"""Camera models fitted to displacement fields: robust, deterministic, numpy alone.

Positions are in picture diagonals from the centre, x to the right and y down. Displacements are in
diagonals too. Both count as complex numbers here (x + iy), because a similarity of the plane is
one complex product: ``u(z) = t + c z``, where ``c = s exp(i angle) - 1``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float

from openwfm.randomness import numpy_generator

RMS_RADIUS = 12**-0.5  # of the points of any rectangle, in its diagonals
NUM_HYPOTHESES = 96  # (1 - 0.3**2)**96 = 1e-4: found although 70 % of the points are outliers
ROUNDS = 6  # of least squares on the inliers of the round before
MIN_POINTS = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraFit:
    """What most of a displacement field follows.

    ``shift`` is the displacement of the picture's centre (x + iy), ``scale`` the factor of its
    size, ``angle`` its turn in radians (clockwise as seen); ``inliers`` the share of the points
    that follow within their tolerance; ``planar`` ``p`` the displacements that a moving plane
    gives, the closest to the inliers; ``residual`` the root mean square distance of the inliers
    from the similarity, in diagonals.
    """

    shift: complex
    scale: float
    angle: float
    inliers: float
    residual: float
    planar: Complex[np.ndarray, " p"]


def fit_camera(
    points: Complex[np.ndarray, " p"],
    moved: Complex[np.ndarray, " p"],
    tolerance: Float[np.ndarray, " p"],
) -> CameraFit | None:
    """Similarity and planar motion of the largest part of the points that moves alike.

    None when there are fewer than 12 points, or when all of them are one. RANSAC over
    pairs of points (Fischler and Bolles 1981), then least squares on inliers until they stay.
    """
    if len(points) < MIN_POINTS:
        return None
    inside = _largest_consensus(points, moved, tolerance)
    found = None
    for _ in range(ROUNDS):
        found = similarity(points[inside], moved[inside])
        if found is None:
            return None
        distance = np.abs(moved - found[0] - found[1] * points)
        before, inside = inside, distance <= tolerance
        if (inside == before).all() or inside.sum() < MIN_POINTS:
            break
    assert found is not None
    near = inside if inside.any() else np.ones(len(points), bool)
    factor = 1 + found[1]
    return CameraFit(
        shift=complex(found[0]),
        scale=float(np.abs(factor)),
        angle=float(np.angle(factor)),
        inliers=float(inside.mean()),
        residual=float(np.sqrt((distance[near] ** 2).mean())),
        planar=_planar(points, moved, near, tolerance),
    )


def similarity(
    points: Complex[np.ndarray, " p"], moved: Complex[np.ndarray, " p"]
) -> tuple[complex, complex] | None:
    """Least squares ``t`` and ``c`` of ``moved = t + c points``; None when all points are one."""
    if not len(points):
        return None
    centre, mean = points.mean(), moved.mean()
    around = points - centre
    spread = float((np.abs(around) ** 2).sum())
    if spread < 1e-9 * len(points):
        return None
    c = complex((around.conj() * (moved - mean)).sum() / spread)
    return complex(mean - c * centre), c


def _largest_consensus(
    points: Complex[np.ndarray, " p"],
    moved: Complex[np.ndarray, " p"],
    tolerance: Float[np.ndarray, " p"],
) -> Bool[np.ndarray, " p"]:
    """Of many similarities through two points each, the inliers of the one with the most."""
    rng = numpy_generator(0, "curation/camera_fit", len(points))
    first, second = rng.integers(len(points), size=(2, NUM_HYPOTHESES))
    base = points[second] - points[first]
    far = np.abs(base) > 0.1  # near points turn noise into scale
    first, second, base = first[far], second[far], base[far]
    if not len(base):
        return np.ones(len(points), bool)
    c = (moved[second] - moved[first]) / base
    t = moved[first] - c * points[first]
    inside = np.abs(moved - t[:, None] - c[:, None] * points) <= tolerance
    return inside[inside.sum(axis=1).argmax()]


def planar_design(points: Complex[np.ndarray, " p"]) -> Float[np.ndarray, "p 2 8"]:
    """The flow of a plane before a moving camera is linear in eight numbers (Longuet-Higgins and
    Prazdny 1980): an affine part, and two terms of second order that it shares between x and y.

    A camera that only turns gives such a flow whatever the scene is.
    """
    x, y, zero, one = points.real, points.imag, np.zeros(len(points)), np.ones(len(points))
    across = np.stack([one, x, y, zero, zero, zero, x * x, x * y], axis=-1)
    down = np.stack([zero, zero, zero, one, x, y, x * y, y * y], axis=-1)
    return np.stack([across, down], axis=1)


def _planar(
    points: Complex[np.ndarray, " p"],
    moved: Complex[np.ndarray, " p"],
    inside: Bool[np.ndarray, " p"],
    tolerance: Float[np.ndarray, " p"],
) -> Complex[np.ndarray, " p"]:
    """Displacements of the planar motion that fits the inliers; these are chosen anew each round,
    since perspective may have left true background outside of the similarity."""
    design = planar_design(points)
    target = np.stack([moved.real, moved.imag], axis=-1)
    planar = moved
    for _ in range(ROUNDS):
        rows, values = design[inside].reshape(-1, 8), target[inside].ravel()
        # Normal equations by einsum: threads of a BLAS could change the order of the sums.
        gram, right = np.einsum("ri,rj->ij", rows, rows), np.einsum("ri,r->i", rows, values)
        flow = design @ np.linalg.lstsq(gram, right, rcond=1e-12)[0]
        planar = flow[:, 0] + 1j * flow[:, 1]
        before, inside = inside, np.abs(moved - planar) <= tolerance
        if (inside == before).all() or inside.sum() < MIN_POINTS:
            break
    return planar
