"""Paths read out of frames whose cameras are known, and the errors of paths."""

from __future__ import annotations

import numpy as np
import pytest

from openwfm.evaluation.metrics.poses import (
    nearest_rotation,
    rotation_angle,
    rotation_error,
    similarity,
    translation_error,
)
from openwfm.posttraining.camera_path import joystick, pinhole

ROWS, COLUMNS, FRAMES = 64, 96, 9
LENS = pinhole((ROWS, COLUMNS), 59.0).double().numpy()


def plane(poses: np.ndarray) -> np.ndarray:
    """Films of a sphere's inside with noise of many sizes on it, 3 m away; ``t h w 3``."""
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(24, 3)) * rng.uniform(1, 5, size=(24, 1))
    phases, colours = rng.uniform(0, 7, 24), rng.uniform(0.2, 1, (24, 3))
    y, x = np.meshgrid(np.arange(ROWS) + 0.5, np.arange(COLUMNS) + 0.5, indexing="ij")
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(LENS).T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    frames = []
    for pose in poses:
        ways = rays @ pose[:3, :3].T
        eye = pose[:3, 3]
        along = ways @ eye
        hit = eye + ways * (-along + np.sqrt(along**2 + 9 - eye @ eye))[..., None]
        light = np.sin(hit @ waves.T + phases) @ colours / 24
        frames.append(np.clip(128 + 400 * light, 0, 255))
    return np.stack(frames).astype(np.uint8)


ASIDE = pytest.mark.xfail(reason="1.63 degrees: at one depth a step aside looks much like a turn")


@pytest.mark.parametrize(
    "moves", ["turn_left*8", "turn_right*8", pytest.param("right*8", marks=ASIDE)]
)
def test_turns_are_read_out_of_small_pictures(moves: str) -> None:
    pytest.importorskip("pycolmap")
    pytest.importorskip("cv2")
    from openwfm.evaluation.camera_recovery import recover_path

    true = joystick(moves, step=0.05, turn=1.5).double().numpy()
    read = recover_path(plane(true), LENS, mapping=False)
    assert read.hops == (0, 4, 8)
    assert read.turns is not None
    assert rotation_error(read.turns, true[list(read.hops), :3, :3]) < 1.5
    assert recover_path(plane(true), LENS, mapping=False).turns == pytest.approx(read.turns)


def test_points_that_leave_or_do_not_come_back_are_lost() -> None:
    pytest.importorskip("pycolmap")
    cv2 = pytest.importorskip("cv2")
    from openwfm.evaluation.camera_recovery import _carried

    flow = np.zeros((8, 8, 2), dtype=np.float32)
    places = np.array([[2.0, 3.0], [np.nan, np.nan], [9.0, 1.0]])
    moved = _carried(cv2, places, flow + 1, flow - 1)
    assert moved[0] == pytest.approx([3, 4])
    assert np.isnan(moved[1:]).all()


def test_errors_do_not_depend_on_axes_and_unit() -> None:
    true = joystick("forward*6 turn_left*6 right*4").double().numpy()
    turn = nearest_rotation(np.random.default_rng(1).normal(size=(3, 3)))
    found = true.copy()
    found[:, :3, :3] = turn @ true[:, :3, :3]
    found[:, :3, 3] = 2.5 * true[:, :3, 3] @ turn.T + [1, 2, 3]
    assert rotation_error(found[:, :3, :3], true[:, :3, :3]) == pytest.approx(0, abs=1e-6)
    assert translation_error(found, true) == pytest.approx(0, abs=1e-6)
    scale, rotation, shift = similarity(found[:, :3, 3], true[:, :3, 3])
    again = scale * found[:, :3, 3] @ rotation.T + shift
    assert again == pytest.approx(true[:, :3, 3], abs=1e-6)


def test_the_opposite_path_is_as_bad_as_standing_still() -> None:
    true = joystick("forward*8").double().numpy()
    back, still = (joystick(moves).double().numpy() for moves in ("back*8", "stay*8"))
    assert translation_error(back, true) == pytest.approx(translation_error(still, true))
    assert translation_error(still, true) > 0.2


def test_angles() -> None:
    turns = joystick("turn_left*4", turn=30.0).double().numpy()[:, :3, :3]
    assert rotation_angle(turns) == pytest.approx([0, 30, 60, 90, 120], abs=1e-3)
    still = np.broadcast_to(np.eye(3), turns.shape)
    assert rotation_error(still, turns) == pytest.approx(75, abs=1e-3)
