"""Epipolar errors and the ego-motion probe against scenes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from openwfm.evaluation.ego_motion import (
    EgoProbe,
    flow_features,
    following_error,
    headings_of,
    path_of,
    true_steps,
)
from openwfm.evaluation.matching import across, cross_view_error, temporal_error
from openwfm.evaluation.metrics.epipolar import fundamental_of, on_canvas, sampson

WIDTH, HEIGHT, FOCAL = 80, 48, 47.67
CAMERA = np.array([[FOCAL, 0, 40.0], [0, FOCAL, 24.0], [0, 0, 1]])


def relative(angle: float, move: tuple[float, float, float]) -> np.ndarray:
    """A turn about the vertical, then a move of the points."""
    pose = np.eye(4)
    cos, sin = np.cos(angle), np.sin(angle)
    pose[:3, :3] = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
    pose[:3, 3] = move
    return pose


def project(points: np.ndarray) -> np.ndarray:
    image = points @ CAMERA.T
    return image[:, :2] / image[:, 2:]


def test_projections_of_the_same_points_have_no_error() -> None:
    random = np.random.default_rng(0)
    points = random.uniform([-3, -1, 4], [3, 1, 9], (50, 3))
    pose = relative(0.3, (0.5, 0.1, -0.2))
    x, y = project(points), project(points @ pose[:3, :3].T + pose[:3, 3])
    fundamental = fundamental_of(CAMERA, CAMERA, pose)
    assert sampson(x, y, fundamental).max() < 1e-9
    # A sideways rig has horizontal lines: d rows apart in both pictures is d/√2 away.
    side = fundamental_of(CAMERA, CAMERA, relative(0.0, (1.0, 0.0, 0.0)))
    error = sampson(x, x + np.array([7.0, 3.0]), side)
    assert np.allclose(error, 3 / np.sqrt(2))
    # First-order optimal: moving both points by the error along the gradient meets the line.
    assert on_canvas(1.0, 960, 540) == 1.0
    assert on_canvas(1.0, 80, 48) == pytest.approx(1101.45 / 93.295, rel=1e-4)
    with pytest.raises(ValueError, match="no distance"):
        fundamental_of(CAMERA, CAMERA, np.eye(4))


def panorama(seed: int) -> np.ndarray:
    """Blobs on a cylinder around the cameras, by angle and height."""
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 255, (60, 360, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.2)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255
    return np.asarray(smooth)


def look(scene: np.ndarray, yaw: float) -> np.ndarray:
    """What a camera that is turned ``yaw`` to the left sees of a panorama at infinity."""
    import cv2

    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    x, y = (columns - 40) / FOCAL, (rows - 24) / FOCAL
    angle = np.arctan(x) - yaw
    place = (np.rad2deg(angle) * 1.0 + 180).astype(np.float32)
    height = (y / np.sqrt(1 + x**2) * 50 + 30).astype(np.float32)
    seen = cv2.remap(scene, place, height, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen.round().clip(0, 255).astype(np.uint8))


def test_views_that_agree_match_and_others_do_not() -> None:
    turn = np.deg2rad(55.0)
    pose = relative(turn, (0.5, 0.02, -0.2))
    scene, other = panorama(0), panorama(1)
    front, left = look(scene, 0.0), look(scene, turn)
    x, y = across(front, left, (CAMERA, CAMERA), pose)
    assert len(x) >= 10
    turned = np.concatenate((x, np.ones((len(x), 1))), 1) @ np.linalg.inv(CAMERA).T
    expected = turned @ pose[:3, :3].T @ CAMERA.T
    away = np.linalg.norm(expected[:, :2] / expected[:, 2:] - y, axis=1)
    assert np.median(away) < 0.5  # pixels, across a turn of 55 degrees
    good, count = cross_view_error(front, left, (CAMERA, CAMERA), pose)
    bad, _ = cross_view_error(front, look(other, turn), (CAMERA, CAMERA), pose)
    assert good < 3.0 and count >= 10
    assert np.isnan(bad) or bad > 3 * good
    blank = np.full_like(front, 100)
    assert np.isnan(cross_view_error(blank, blank, (CAMERA, CAMERA), pose)[0])


def test_frames_that_do_not_move_have_no_temporal_error() -> None:
    scene = panorama(2)
    assert np.isnan(temporal_error(look(scene, 0.0), look(scene, 0.0))[0])
    error, matches = temporal_error(look(scene, 0.0), look(scene, 0.03))
    assert matches >= 12 and error < 5.0


def test_steps_and_paths_are_inverse() -> None:
    angles = np.linspace(0, 0.5, 17)
    speeds = np.full(16, 0.9)
    steps = np.stack((speeds, 0.05 * np.ones(16), np.diff(angles)), axis=1)
    path = path_of(steps)
    points = np.zeros((64, 3))
    points[:16, :2] = path
    assert np.allclose(true_steps(points, angles), steps)
    assert following_error(path, points) == 0
    assert following_error(path + np.array([3.0, 4.0]), points) == pytest.approx(5.0)
    poses = np.tile(np.eye(4), (3, 1, 1))
    for pose, angle in zip(poses, (1.0, 1.1, 1.3), strict=True):
        pose[:3, 2] = np.cos(angle), np.sin(angle), -0.05
    assert np.allclose(headings_of(poses), [0.0, 0.1, 0.3])


def test_the_probe_reads_a_turn_from_flow() -> None:
    """A panorama at infinity shows turns and nothing else."""
    random = np.random.default_rng(3)

    def drive(seed: int, turns: np.ndarray) -> np.ndarray:
        yaws = np.concatenate(([0.0], np.cumsum(turns)))
        scene = panorama(seed)
        return np.stack([np.stack([look(scene, a + yaw) for yaw in yaws]) for a in (0.0, 0.9)])

    turns = [random.uniform(-0.04, 0.04, 6) for _ in range(9)]
    features = [flow_features(drive(i, turn)) for i, turn in enumerate(turns)]
    steps = [np.stack((0 * turn, 0 * turn, turn), axis=1) for turn in turns]
    probe = EgoProbe.fit(np.concatenate(features[:8]), np.concatenate(steps[:8]), 0.1)
    read = (features[8] - probe.mean) / probe.std @ probe.weights + probe.offset
    assert np.abs(read[:, 2] - turns[8]).max() < 0.015
    with pytest.raises(ValueError, match="ridge"):
        EgoProbe.fit(features[0], steps[0], 0.0)
