"""A new network starts as a linear coder: short, of modest amplitude, and already transmitting."""

from __future__ import annotations

import pytest
import torch

from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, preset
from openwfm.tokenizer.initialize import initialize, pink_clips
from openwfm.tokenizer.losses import psnr

DEEP = TokenizerConfig(channels=8, channels_mult=(1, 2, 2), num_res_blocks=4)


def new(config: TokenizerConfig) -> VideoTokenizer:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config)
    initialize(tokenizer)
    return tokenizer


def test_first_output_is_not_brighter_than_a_clip() -> None:
    video = torch.rand(2, 3, 9, 32, 32) * 2 - 1
    for config in (preset("cv8x8x8_nano"), DEEP):
        output = new(config)(video)
        assert 0.001 < output.std() < 0.6


def test_residual_paths_start_closed() -> None:
    x = torch.randn(1, 3, 4, 4, 16)
    middle = new(DEEP).encoder.middle
    assert torch.equal(middle(x), x)


def test_every_weight_receives_a_gradient_after_one_step() -> None:
    """A path that starts at zero must not stay shut: its last layer moves in the first step."""
    tokenizer = new(TokenizerConfig(channels=8, channels_mult=(1, 2, 2), num_res_blocks=1))
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=1e-2)
    video = torch.rand(2, 3, 9, 16, 16) * 2 - 1
    for _ in range(3):
        optimizer.zero_grad()
        (tokenizer(video) - video).abs().mean().backward()
        optimizer.step()
    still = [n for n, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize("time", [8, 4])
def test_transmits_before_any_training(time: int) -> None:
    """More than the mean colour of every block, on noise that it was not solved for."""
    config = TokenizerConfig(
        channels=32, channels_mult=(1, 2, 2), num_res_blocks=1, temporal_compression=time
    )
    tokenizer = new(config)
    clips = pink_clips(40, 1 + 2 * time, 32)[24:].clamp(-1, 1)
    future = clips[:, :, 1:]
    grey = torch.nn.functional.avg_pool3d(future, (time, 8, 8))
    for dim, factor in enumerate((time, 8, 8), start=2):
        grey = grey.repeat_interleave(factor, dim)
    with torch.no_grad():
        ours = tokenizer(clips)[:, :, 1:]
    assert psnr(ours, future).mean() > psnr(grey, future).mean() + 0.5


@pytest.mark.parametrize("name", ["ci8x8_nano", "di8x8_nano", "dv8x8x8_nano", "dv4x8x8_nano"])
def test_images_and_codes_transmit_before_any_training(name: str) -> None:
    """Codes of 16 bits a cell do not beat its mean colour by as much as 16 numbers do."""
    config = preset(name)
    time = config.temporal_compression
    clips = pink_clips(32, 1 + 2 * time, 32)[24:].clamp(-1, 1)
    later = clips[:, :, 1:]
    grey = torch.nn.functional.avg_pool3d(later, (time, 8, 8))
    for dim, factor in enumerate((time, 8, 8), start=2):
        grey = grey.repeat_interleave(factor, dim)
    with torch.no_grad():
        tokenizer = new(config)
        ours = tokenizer(clips)[:, :, 1:]
        if config.fsq_levels is not None:
            codes = tokenizer.encode(clips)
            assert all(len(c.unique()) >= 5 for c in codes.unbind(1)), "every level is in use"
    margin = 0.5 if config.fsq_levels is None else -2.0
    gain = psnr(ours, later).mean() - psnr(grey, later).mean()
    assert gain > margin, float(gain)


def test_any_published_arrangement_can_be_initialised() -> None:
    """Also where the decoder's grids are not those of the encoder."""
    config = TokenizerConfig(
        channels=8, channels_mult=(2, 4, 4), num_res_blocks=1, spatial_compression=16
    )
    video = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    assert torch.isfinite(new(config)(video)).all()
