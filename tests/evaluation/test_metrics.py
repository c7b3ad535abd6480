"""Metrics against closed forms and an independent numpy implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from openwfm.evaluation.metrics import (
    bootstrap_interval,
    frame_psnr,
    frame_ssim,
    masked_psnr,
    moving_pixels,
    psnr,
    ssim,
)


def clips(seed: int, b: int = 2, t: int = 3, size: int = 24) -> torch.Tensor:
    return torch.rand(b, 3, t, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@given(st.floats(0.002, 1.0))
@settings(max_examples=20, deadline=None)
def test_psnr_of_a_constant_offset(offset):
    """An offset d of a [0, 1] image has PSNR -20 log10 d."""
    black = torch.full((1, 3, 2, 8, 8), -1.0)
    expected = -20 * math.log10(offset)
    assert psnr(black + 2 * offset, black).item() == pytest.approx(expected, abs=1e-3)
    assert frame_psnr(black + 2 * offset, black).tolist() == [
        pytest.approx([expected] * 2, abs=1e-3)
    ]


def test_psnr_against_numpy():
    a, b = clips(0), clips(1)
    error = ((a.numpy().astype(np.float64) - b.numpy()) / 2) ** 2
    by_clip = -10 * np.log10(error.mean(axis=(1, 2, 3, 4)))
    by_frame = -10 * np.log10(error.mean(axis=(1, 3, 4)))
    np.testing.assert_allclose(psnr(a, b).numpy(), by_clip, atol=1e-4)
    np.testing.assert_allclose(frame_psnr(a, b).numpy(), by_frame, atol=1e-4)


def test_equal_videos():
    a = clips(0)
    assert (psnr(a, a) == 100).all() and (frame_psnr(a, a) == 100).all()
    assert ssim(a, a).numpy() == pytest.approx(1.0)


def test_ssim_against_scipy():
    """Wang et al. 2004 with scipy's Gaussian, the border mirrored."""
    a, b = clips(2, size=32), (0.7 * clips(2, size=32) + 0.3 * clips(3, size=32))
    x, y = ((v.numpy().astype(np.float64) + 1) / 2 for v in (a, b))

    def blur(image):
        return gaussian_filter(image, 1.5, truncate=5 / 1.5, mode="mirror", axes=(-2, -1))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    index = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    expected = index.mean(axis=(1, 3, 4))
    np.testing.assert_allclose(frame_ssim(a, b).numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(ssim(a, b).numpy(), expected.mean(axis=1), atol=1e-4)


def test_moving_pixels_are_the_changed_ones_and_their_neighbours():
    last = torch.full((1, 3, 9, 9), -1.0)
    future = last[:, :, None].repeat(1, 1, 2, 1, 1)
    future[0, 1, 0, 4, 4] = 0.0  # changed by half the range, in one channel, in one frame
    future[0, :, 1, 0, 0] = -0.85  # by less than the threshold
    mask = moving_pixels(future, last)
    assert mask.shape == (1, 2, 9, 9) and mask[0, 0, 3:6, 3:6].all() and mask.sum() == 9
    assert moving_pixels(future, last, threshold=0.05)[0, 1].sum() == 4
    with pytest.raises(ValueError, match="threshold=1.5"):
        moving_pixels(future, last, threshold=1.5)


def test_masked_psnr_sees_only_the_mask():
    target = clips(4)
    video = target.clone()
    video[:, :, :, :8] += 0.2
    mask = torch.zeros(2, 3, 24, 24, dtype=torch.bool)
    mask[:, :, :8] = True
    assert masked_psnr(video, target, mask).numpy() == pytest.approx(20.0, abs=1e-3)
    assert (masked_psnr(video, target, ~mask) == 100).all()
    full = torch.ones_like(mask)
    torch.testing.assert_close(masked_psnr(video, target, full), psnr(video, target))
    assert masked_psnr(video, target, torch.zeros_like(mask)).isnan().all()


def test_bootstrap_covers_the_truth():
    """Some 95 % of intervals hold the true mean (of 40 values, a bit less)."""
    random = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        interval = bootstrap_interval(random.normal(3.0, 2.0, 40), seed=trial, num=400)
        held += interval.low <= 3.0 <= interval.high
    assert 0.90 <= held / 300 <= 0.98


def test_bootstrap_of_groups_is_wider_than_of_their_members():
    """Ten windows of each clip, all alike, tell no more than one window of each."""
    random = np.random.default_rng(1)
    means = random.normal(size=20)
    values, groups = np.repeat(means, 10), [f"clip{i}" for i in range(20) for _ in range(10)]
    naive, grouped = bootstrap_interval(values), bootstrap_interval(values, groups=groups)
    single = bootstrap_interval(means)
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.1)
    assert grouped.high - grouped.low > 2.5 * (naive.high - naive.low)
    assert (grouped.num_values, grouped.num_groups) == (200, 20)


def test_bootstrap_of_unequal_groups_keeps_the_mean_inside():
    interval = bootstrap_interval([0.0] * 9 + [10.0], groups=["a"] * 9 + ["b"])
    assert interval.mean == 1.0 and interval.low == 0.0 and interval.high == 10.0


def test_bootstrap_edges():
    assert math.isnan(bootstrap_interval([]).mean)
    single = bootstrap_interval([2.0])
    assert single.mean == 2.0 and math.isnan(single.low)
    assert bootstrap_interval([1.0, 2.0, 5.0]) == bootstrap_interval([1.0, 2.0, 5.0])
    with pytest.raises(ValueError, match="must be finite"):
        bootstrap_interval([1.0, math.inf])
    with pytest.raises(ValueError, match="2 labels for 3"):
        bootstrap_interval([1.0, 2.0, 3.0], groups=["a", "b"])
    with pytest.raises(ValueError, match="level=2"):
        bootstrap_interval([1.0], level=2)
