"""The wavelet against strided filters, closed forms and its own inverse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from openwfm.nn.wavelet import haar_forward, haar_inverse, hadamard


def filtered(video: torch.Tensor, patch_size: int) -> torch.Tensor:
    """The definition: depthwise 2×2×2 filters of stride 2, level by level, channels first."""
    x = torch.cat((video[:, :, :1].repeat(1, 1, patch_size - 1, 1, 1), video), 2)
    while patch_size > 1:
        bands = []
        for band in range(8):
            kernel = torch.empty(2, 2, 2, dtype=x.dtype)
            for i in range(2):
                for j in range(2):
                    for k in range(2):
                        parity = (band >> 2 & 1) * i + (band >> 1 & 1) * j + (band & 1) * k
                        kernel[i, j, k] = (-1) ** parity / 8
            channels = x.shape[1]
            weight = kernel.expand(channels, 1, 2, 2, 2)
            bands.append(F.conv3d(x, weight, stride=2, groups=channels))
        x = torch.cat(bands, 1)
        patch_size //= 2
    return x


@pytest.mark.parametrize("patch_size", [2, 4, 8])
def test_equals_filters_level_by_level(patch_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 1 + 2 * patch_size, 2 * patch_size, 3 * patch_size)
    video = torch.rand(shape, generator=generator, dtype=torch.float64)
    ours = haar_forward(video, patch_size).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(ours, filtered(video, patch_size), rtol=0, atol=1e-13)


@settings(max_examples=20, deadline=None)
@given(
    patch_size=st.sampled_from([2, 4]),
    channels=st.integers(1, 4),
    groups=st.integers(1, 3),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_round_trip(
    patch_size: int, channels: int, groups: int, rows: int, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, channels, 1 + patch_size * (groups - 1), patch_size * rows, patch_size * columns)
    video = torch.randn(shape, generator=generator)
    bands = haar_forward(video, patch_size)
    assert bands.shape == (1, groups, rows, columns, channels * patch_size**3)
    torch.testing.assert_close(haar_inverse(bands, patch_size), video, rtol=0, atol=1e-5)


def test_images_equal_bands_cell_by_cell() -> None:
    """(width bit, height bit) of 2x2 cells, level by level; frames stay apart."""
    video = torch.rand(2, 3, 3, 8, 12, dtype=torch.float64)
    ours = haar_forward(video, 4, image=True)
    x = video
    for _ in range(2):
        bands = []
        for b_w, b_h in ((0, 0), (0, 1), (1, 0), (1, 1)):
            rows = x[..., 0::2, :] + (-1) ** b_h * x[..., 1::2, :]
            bands.append((rows[..., 0::2] + (-1) ** b_w * rows[..., 1::2]) / 4)
        x = torch.cat(bands, 1)
    torch.testing.assert_close(ours, x.permute(0, 2, 3, 4, 1), rtol=0, atol=1e-13)
    torch.testing.assert_close(haar_inverse(ours, 4, image=True), video, rtol=0, atol=1e-13)


def test_a_clip_continues_where_its_beginning_ended() -> None:
    video = torch.rand(1, 3, 13, 8, 8, dtype=torch.float64)
    whole = haar_forward(video, 4)
    parts = haar_forward(video[:, :, :5], 4), haar_forward(video[:, :, 5:], 4, start=False)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-13)
    pixels = haar_inverse(parts[0], 4), haar_inverse(parts[1], 4, start=False)
    torch.testing.assert_close(torch.cat(pixels, 2), video, rtol=0, atol=1e-13)


def test_a_constant_clip_is_in_band_zero_only() -> None:
    values = torch.tensor([-0.7, 0.1, 0.9])
    bands = haar_forward(values.view(1, 3, 1, 1, 1).expand(1, 3, 9, 8, 8), 4)
    torch.testing.assert_close(bands[..., :3], values.expand(1, 3, 2, 2, 3))
    assert bands[..., 3:].abs().max() < 1e-7


def test_hadamard_is_orthogonal() -> None:
    matrix = hadamard(64)
    torch.testing.assert_close(matrix @ matrix.T, 64 * torch.eye(64))
    assert torch.equal(matrix, matrix.T)
