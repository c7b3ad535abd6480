"""Scores and tags on pictures whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.measure import Measure, dominant_colour, fit_similarity, light, stillness

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def measure() -> Measure:
    stage = Measure()
    stage.setup()
    return stage


def texture(size: int = 256) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return (smooth - smooth.min()) / np.ptp(smooth) * 255


def camera(path: list[tuple[float, float, float]]) -> np.ndarray:
    """64×64 views of a texture from x, y (pixels) and zoom."""
    views = []
    for x, y, zoom in path:
        matrix = np.array([[1 / zoom, 0, 128 + x - 32 / zoom], [0, 1 / zoom, 128 + y - 32 / zoom]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        views.append(cv2.warpAffine(texture(), matrix, (64, 64), flags=flags))
    return np.stack(views).astype(np.float32)


@pytest.mark.parametrize(
    "step, tag",
    [
        ((0.8, 0, 0), "pan_right"),
        ((-0.8, 0, 0), "pan_left"),
        ((0, 0.8, 0), "tilt_down"),
        ((0, -0.8, 0), "tilt_up"),
        ((0, 0, 0.008), "zoom_in"),
        ((0, 0, -0.006), "zoom_out"),
        ((0, 0, 0), "static_camera"),
    ],
)
def test_camera_tags(measure, step, tag) -> None:
    path = [(step[0] * i, step[1] * i, 1 + step[2] * i) for i in range(48)]
    assert measure.camera(camera(path), 24).tags() == (tag,)


def test_camera_speed_is_in_diagonals_per_second(measure) -> None:
    moved = measure.camera(camera([(i, 0, 1) for i in range(48)]), 24).scores()
    assert moved["camera_x"] == pytest.approx(-24 / np.hypot(64, 64), rel=0.05)
    assert moved["camera_y"] == pytest.approx(0, abs=0.01)


def test_an_object_does_not_move_the_camera(measure) -> None:
    frames = camera([(0, 0, 1)] * 48)
    for index in range(48):
        frames[index, 20:40, index // 2 : index // 2 + 20] = 255
    assert measure.camera(frames, 24).tags() == ("static_camera",)
    scores = stillness(cv2, frames)
    assert scores["frozen"] < 0.6 and scores["moving"] > 0.1


@settings(max_examples=20, deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-0.1, 0.1))
def test_similarity_is_exact_on_a_similarity(x: float, y: float, scale: float) -> None:
    rows, columns = np.mgrid[:48, :64] - np.array([22, 30])[:, None, None]  # the grid's centre
    field = np.stack([x + scale * columns, y + scale * rows], axis=-1)
    np.testing.assert_allclose(fit_similarity(field), [x, y, scale], atol=1e-6)


def test_similarity_ignores_an_object() -> None:
    field = np.full((48, 64, 2), (1.5, -0.5))
    field[:20, :25] = 50
    np.testing.assert_allclose(fit_similarity(field), [1.5, -0.5, 0], atol=1e-6)


@pytest.mark.parametrize("level", [0, 128])
def test_frozen_survives_coding_noise(level) -> None:
    random = np.random.default_rng(0)
    still = np.full((48, 64, 64), level, np.float32) + random.normal(0, 0.5, (48, 64, 64))
    scores = stillness(cv2, still.astype(np.float32))
    assert scores["frozen"] == 1 and scores["moving"] == 0


def test_a_small_slow_ball_is_not_frozen() -> None:
    frames = np.full((48, 64, 64), 120, np.float32)
    y, x = np.mgrid[:64, :64]
    for index in range(48):
        frames[index][(x - 20 - 0.4 * index) ** 2 + (y - 32) ** 2 < 25] = 220
    scores = stillness(cv2, frames)
    assert scores["frozen"] < 0.6 and scores["moving"] > 0.02


def test_single_frame_is_frozen() -> None:
    assert stillness(cv2, np.zeros((1, 64, 64), np.float32))["frozen"] == 1


@pytest.mark.parametrize(
    "rgb, name",
    [
        ((220, 30, 30), "red"), ((30, 200, 30), "green"), ((30, 30, 220), "blue"),
        ((230, 220, 40), "yellow"), ((128, 128, 128), "grey"), ((5, 5, 5), "black"),
        ((250, 250, 250), "white"),
    ],
)  # fmt: skip
def test_dominant_colour(rgb, name) -> None:
    frames = np.full((4, 16, 16, 3), rgb, np.uint8)
    assert dominant_colour(frames) == name


def test_light_is_in_levels() -> None:
    frames = np.full((4, 16, 16, 3), 51, np.uint8)
    scores = light(frames, frames[..., 0].astype(np.float32))
    assert scores["luma_mean"] == 51 and scores["luma_p95"] == 51 and scores["contrast"] == 0


def test_signature_is_a_mean_of_blocks(measure) -> None:
    grey = np.random.default_rng(1).uniform(0, 255, (3, 64, 64)).astype(np.float32)
    expected = grey.reshape(3, 8, 8, 8, 8).mean(axis=(2, 4)).reshape(3, 64)
    assert np.abs(measure.signature(grey) - expected).max() <= 0.51
