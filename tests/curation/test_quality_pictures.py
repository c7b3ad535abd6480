"""Blur, blocking and noise against pictures whose defects are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.curation.sharpness import MAX_BLUR, blocking, blur_width, noise_level

cv2 = pytest.importorskip("cv2")


def mosaic(seed: int = 0, height: int = 192, width: int = 256) -> np.ndarray:
    """Flat cells of random grey with steps between them that no grid of 8 fits; float."""
    cells = np.random.default_rng(seed).uniform(30, 220, (height // 27 + 1, width // 27 + 1))
    return np.kron(cells, np.ones((27, 27)))[:height, :width].astype(np.float32)


def grey(picture: np.ndarray) -> np.ndarray:
    return np.rint(picture).clip(0, 255).astype(np.uint8)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.0, 3.5), st.integers(0, 1000))
def test_the_width_of_a_gaussian_is_found(sigma: float, seed: int) -> None:
    blurred = cv2.GaussianBlur(mosaic(seed), (0, 0), sigma)
    assert blur_width(cv2, grey(blurred)) == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("across", [True, False])
def test_smear_counts_in_either_direction(across: bool) -> None:
    """A box of length n has a deviation of sqrt((n² - 1) / 12) pixels. Its ramps have no peak for
    a second blur to lower, so they count for more; the sharp direction halves the variance."""
    lengths = (3, 5, 9, 13)
    sizes = [(length, 1) if across else (1, length) for length in lengths]
    widths = [blur_width(cv2, grey(cv2.blur(mosaic(), size))) for size in sizes]
    deviations = np.sqrt((np.array(lengths) ** 2 - 1) / 12)
    assert (np.array(widths) > 0.6 * deviations).all()
    assert widths[0] < 1 < widths[1] < widths[2]


def test_a_sharp_subject_before_a_blurred_ground_is_sharp() -> None:
    picture = cv2.GaussianBlur(mosaic(), (0, 0), 6)
    picture[60:130, 80:180] = np.random.default_rng(1).uniform(0, 255, (70, 100))
    assert blur_width(cv2, grey(picture)) < 1
    assert blur_width(cv2, grey(cv2.GaussianBlur(mosaic(), (0, 0), 6))) > 4


def test_blur_grows_with_blur_under_noise() -> None:
    noise = np.random.default_rng(2).normal(0, 2, (192, 256))
    widths = [
        blur_width(cv2, grey(cv2.GaussianBlur(mosaic(), (0, 0), s) + noise))
        for s in (0.5, 1, 1.5, 2, 3)
    ]
    assert widths == sorted(widths) and widths[-1] > 2


def test_without_edges() -> None:
    """Nothing in sight is not blur; shapes without any edge are."""
    assert blur_width(cv2, np.full((90, 120), 80, np.uint8)) == 0
    slope = np.linspace(60, 120, 240, dtype=np.float32)[None].repeat(180, axis=0)
    assert blur_width(cv2, grey(slope)) == MAX_BLUR


@settings(max_examples=15, deadline=None)
@given(st.floats(3, 12), st.integers(0, 7), st.integers(0, 7), st.sampled_from([8, 16]))
def test_blocks_are_found_wherever_the_grid_begins(
    jump: float, top: int, left: int, side: int
) -> None:
    checker = np.indices((30, 40)).sum(axis=0) % 2 * jump
    slope = np.linspace(40, 160, 40 * side)
    blocks = np.kron(checker, np.ones((side, side))) + slope
    assert blocking(grey(blocks[top:, left:])) == pytest.approx(jump, abs=1.5)
    assert blocking(grey(np.broadcast_to(slope, blocks.shape))) < 0.6


def test_a_fence_and_a_mosaic_are_no_blocks() -> None:
    fence = np.kron(np.indices((1, 40))[1] % 2 * 10 + 100, np.ones((240, 8)))
    assert blocking(grey(fence)) < 0.5
    assert blocking(grey(mosaic())) < 0.5


def test_blocking_grows_with_compression() -> None:
    noise = np.random.default_rng(3).normal(0, 30, (192, 256)).astype(np.float32)
    picture = grey(mosaic() + cv2.GaussianBlur(noise, (0, 0), 3) * 3)
    values = []
    for quality in (90, 40, 20, 8):
        _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        values.append(blocking(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)))
    assert values == sorted(values) and values[0] < 0.5 and values[-1] > 2.5


@settings(max_examples=15, deadline=None)
@given(st.floats(1, 20), st.integers(0, 1000))
def test_the_level_of_noise_is_found(sigma: float, seed: int) -> None:
    """Also on a slope, and beside busy parts."""
    random = np.random.default_rng(seed)
    picture = np.linspace(80, 160, 256)[None].repeat(192, axis=0)
    picture[:90, :120] = mosaic()[:90, :120]
    noisy = picture + random.normal(0, sigma, picture.shape)
    assert noise_level(cv2, grey(noisy)) == pytest.approx(sigma, rel=0.12, abs=0.15)


def test_noise_free_and_clipped_pictures_have_no_noise() -> None:
    assert noise_level(cv2, grey(cv2.GaussianBlur(mosaic(), (0, 0), 2))) < 0.3
    assert noise_level(cv2, np.zeros((64, 64), np.uint8)) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 255), st.integers(0, 99))
def test_any_size_gives_a_figure_in_its_range(h: int, w: int, level: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for picture in (
        np.full((h, w), level, np.uint8),
        random.integers(0, 256, (h, w), dtype=np.uint8),
        grey(mosaic(seed, h, w)),
    ):
        assert 0 <= blur_width(cv2, picture) <= MAX_BLUR
        assert 0 <= blocking(picture) <= 16
        # The operator's response is at most 8 × 255.
        assert 0 <= noise_level(cv2, picture) <= 8 * 255 * np.sqrt(np.pi / 2) / 6
