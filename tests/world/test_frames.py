"""Which frames condition a world, and how they are made to fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openwfm.shapes import Temporal
from openwfm.video import fit_size
from openwfm.world.frames import condition_latents


@given(
    available=st.integers(1, 200),
    latents=st.integers(2, 20),
    limit=st.integers(1, 12),
    ratio=st.sampled_from([1, 4, 8]),
)
def test_the_largest_count_that_fits(available, latents, limit, ratio):
    temporal = Temporal(ratio=ratio)
    count = condition_latents(
        available,
        num_frames=int(temporal.frames(latents)),
        max_latents=limit,
        temporal=temporal,
    )
    fits = [n for n in range(1, limit + 1) if n < latents and 1 + ratio * (n - 1) <= available]
    assert count == max(fits)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"available": 0, "num_frames": 17, "max_latents": 2}, "holds 0 frames"),
        ({"available": 9, "num_frames": 17, "max_latents": 0}, "takes none"),
        ({"available": 9, "num_frames": 1, "max_latents": 2}, "must be at least 9"),
        ({"available": 9, "num_frames": 16, "max_latents": 2}, r"must be 1 \+ 8·n .*9 or 17"),
    ],
)
def test_what_cannot_fit(arguments, words):
    available = arguments.pop("available")
    with pytest.raises(ValueError, match=words):
        condition_latents(available, temporal=Temporal(ratio=8), **arguments)


def test_fit_size_keeps_what_fits():
    video = torch.rand(3, 2, 8, 8)
    assert fit_size(video, (8, 8)) is video


def test_fit_size_crops_the_centre_and_averages():
    """A 4x8 picture to 2x2: columns 2..5 remain, and every 2x2 square becomes its mean."""
    video = torch.arange(32.0).view(1, 1, 4, 8).expand(3, 1, 4, 8)
    fitted = fit_size(video, (2, 2))
    middle = video[..., 2:6]
    expected = middle.unfold(-2, 2, 2).unfold(-2, 2, 2).mean(dim=(-1, -2))
    torch.testing.assert_close(fitted, expected)


@given(h=st.integers(4, 90), w=st.integers(4, 90))
def test_fit_size_keeps_a_constant_and_the_range(h, w):
    assert torch.allclose(fit_size(torch.full((3, 1, h, w), 0.3), (16, 24)), torch.tensor(0.3))
    noise = fit_size(torch.rand(3, 1, h, w) * 2 - 1, (16, 24))
    assert noise.shape == (3, 1, 16, 24) and noise.abs().max() <= 1.0 + 1e-6
