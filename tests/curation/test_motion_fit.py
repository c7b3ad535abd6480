"""Camera fits against closed forms, with outliers, noise and broken input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.camera_fit import (
    MIN_POINTS,
    RMS_RADIUS,
    fit_camera,
    planar_design,
    similarity,
)
from openwfm.curation.fields import cell_centres
from openwfm.curation.leftover import leftover

PIXEL = 1 / 200
GRID = cell_centres(24, 32, 4, 96, 128).ravel()


def tolerance(moved: np.ndarray) -> np.ndarray:
    return 0.5 * PIXEL + 0.15 * np.abs(moved)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(0.9, 1.1), st.floats(-0.1, 0.1),
    st.floats(0, 0.45), st.integers(0, 2**32),
)  # fmt: skip
def test_finds_the_similarity_whatever_a_part_of_the_picture_does(
    x: float, y: float, scale: float, angle: float, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    moved = x + 1j * y + (scale * np.exp(1j * angle) - 1) * GRID
    wrong = rng.random(len(GRID)) < share
    moved[wrong] += 0.2 * np.exp(2j * np.pi * rng.random()) + rng.normal(0, 0.05, wrong.sum())
    noise = rng.normal(0, 0.05 * PIXEL, (2, len(GRID)))
    fit = fit_camera(GRID, moved + noise[0] + 1j * noise[1], tolerance(moved))
    assert fit is not None
    assert abs(fit.shift - (x + 1j * y)) < 0.1 * PIXEL
    assert fit.scale == pytest.approx(scale, abs=2e-3)
    assert fit.angle == pytest.approx(angle, abs=2e-3)
    assert fit.inliers == pytest.approx(1 - wrong.mean(), abs=0.03)
    assert fit.residual < 0.2 * PIXEL


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_similarity_agrees_with_real_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, moved = rng.normal(size=(2, 30)) + 1j * rng.normal(size=(2, 30))
    one, zero = np.ones(30), np.zeros(30)
    rows = np.concatenate(
        [
            np.stack([one, zero, points.real, -points.imag], -1),
            np.stack([zero, one, points.imag, points.real], -1),
        ]
    )
    expected = np.linalg.lstsq(rows, np.concatenate([moved.real, moved.imag]), rcond=None)[0]
    found = similarity(points, moved)
    assert found is not None
    np.testing.assert_allclose(
        [found[0].real, found[0].imag, found[1].real, found[1].imag], expected, atol=1e-9
    )


def rotation_flow(points: np.ndarray, focal: float, yaw: float, pitch: float) -> np.ndarray:
    """Exact displacements of pixels when a pinhole camera turns; independent of the fit."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ [[1, 0, 0], [0, cp, -sp], [0, sp, cp]]
    rays = turn @ np.stack([points.real, points.imag, np.full(len(points), focal)])
    flow: np.ndarray = focal * (rays[0] + 1j * rays[1]) / rays[2] - points
    return flow


def test_a_turn_is_a_planar_motion_and_leaves_nothing_over() -> None:
    moved = rotation_flow(GRID, 0.6, 0.03, 0.01)
    fit = fit_camera(GRID, moved, tolerance(moved))
    assert fit is not None
    assert np.abs(fit.planar - moved).max() < 0.05 * PIXEL
    rest = leftover(moved, fit.planar, PIXEL)
    assert rest.objects == 0 and rest.parallax < 0.01


def test_planar_design_is_that_of_a_plane() -> None:
    """The image motion of a plane n·X = 1 under rotation w and translation v, differentiated."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-0.4, 0.4, 50) + 1j * rng.uniform(-0.4, 0.4, 50)
    normal, w, v = rng.normal(size=(3, 3))
    rays = np.stack([points.real, points.imag, np.ones(50)])
    depth = 1 / (normal @ rays)
    speed = -np.cross(w, (rays * depth).T).T - v[:, None]
    flow = (speed[:2] - rays[:2] * speed[2]) / depth
    design = planar_design(points).transpose(1, 0, 2).reshape(100, 8)
    solved, *_ = np.linalg.lstsq(design, flow.ravel(), rcond=None)
    np.testing.assert_allclose(design @ solved, flow.ravel(), atol=1e-9)


@pytest.mark.parametrize("direction", [1.0, -1.0, 1j, 0.6 - 0.8j])
def test_depth_is_parallax_and_not_an_object(direction: complex) -> None:
    rng = np.random.default_rng(0)
    nearness = rng.uniform(0.5, 1.5, len(GRID))
    moved = 0.04 * direction * nearness
    fit = fit_camera(GRID, moved, tolerance(moved))
    assert fit is not None
    rest = leftover(moved, fit.planar, PIXEL)
    assert rest.parallax > 0.1 and rest.objects == 0


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 2 * np.pi), st.floats(0.02, 0.1), st.sampled_from([0.0, 0.03, 0.08]))
def test_things_that_cross_the_cameras_lines_are_objects(
    angle: float, speed: float, pan: float
) -> None:
    inside = np.abs(GRID - 0.1) < 0.15
    moved = np.full(len(GRID), pan + 0j)
    own = speed * np.exp(1j * (angle if pan == 0 else np.pi / 2))
    moved[inside] += 2 * own
    fit = fit_camera(GRID, moved, tolerance(moved))
    assert fit is not None
    rest = leftover(moved, fit.planar, PIXEL)
    assert rest.objects == pytest.approx(inside.mean(), abs=0.01)
    assert rest.parallax < 0.01


@pytest.mark.parametrize("num", [0, 1, MIN_POINTS - 1])
def test_too_few_points_are_no_fit(num: int) -> None:
    assert fit_camera(GRID[:num], GRID[:num], np.ones(num)) is None


def test_one_place_is_no_fit_and_a_line_is() -> None:
    same = np.full(40, 0.1 + 0.1j)
    assert fit_camera(same, same, np.ones(40)) is None
    line = np.linspace(-0.4, 0.4, 40) * (1 + 0.5j)
    fit = fit_camera(line, 0.02 + 0.1 * line, np.full(40, 1e-3))
    assert fit is not None and fit.scale == pytest.approx(1.1) and fit.shift.real > 0.0199


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(MIN_POINTS, 60), st.sampled_from([1e-12, 1.0, 1e6]))
def test_noise_of_any_size_gives_finite_numbers_and_the_same_twice(
    seed: int, num: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=num) + 1j * rng.normal(size=num)
    moved = size * (rng.normal(size=num) + 1j * rng.normal(size=num))
    first, again = (fit_camera(points, moved, tolerance(moved)) for _ in range(2))
    assert first is not None and again is not None
    assert np.isfinite([first.shift, first.scale, first.angle, first.residual]).all()
    assert np.isfinite(first.planar).all() and 0 <= first.inliers <= 1
    assert first.shift == again.shift and (first.planar == again.planar).all()
    rest = leftover(moved, first.planar, PIXEL)
    assert 0 <= rest.objects <= 1 and 0 <= rest.parallax < np.inf


@pytest.mark.parametrize("height, width", [(90, 160), (128, 128), (200, 40)])
def test_root_mean_square_radius_of_any_rectangle(height: int, width: int) -> None:
    points = cell_centres(height, width, 1, height, width)
    assert np.sqrt((np.abs(points) ** 2).mean()) == pytest.approx(RMS_RADIUS, rel=1e-3)
    assert abs(points.mean()) < 1e-12
