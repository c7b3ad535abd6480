"""Tiles equal the whole frame, whatever their size, and need less memory."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from openwfm.tokenizer import TokenizerConfig, VideoTokenizer
from openwfm.tokenizer.tiling import decode_tiled, encode_tiled

CLIP = TokenizerConfig(channels=8, channels_mult=(1, 2, 2), num_res_blocks=1)
CONFIGS = {
    "cv8x8x8": CLIP,
    "cv8x8x8, two blocks": replace(CLIP, num_res_blocks=2),
    "cv8x16x16": replace(CLIP, spatial_compression=16),
    "cv4x8x8": replace(CLIP, temporal_compression=4, channels_mult=(1, 2)),
    "cv4x8x8, patch 2": replace(CLIP, temporal_compression=4, patch_size=2),
    "patch alone": replace(CLIP, temporal_compression=4, spatial_compression=4),
    "two groups, window": replace(CLIP, num_groups=2, attention_window=1),
    "ci8x8": replace(CLIP, temporal_compression=1, num_groups=4),
    "ci16x16": replace(CLIP, temporal_compression=1, spatial_compression=16),
    "ci8x8, patch 2": replace(CLIP, temporal_compression=1, patch_size=2),
}


def scrambled(config: TokenizerConfig) -> VideoTokenizer:
    """Random weights that are nowhere zero; biases that padding and margins cannot hide behind."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config)
    for parameter in tokenizer.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.5, 0.3)
    return tokenizer.eval().requires_grad_(False)


def error(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    assert ours.shape == wanted.shape
    return float((ours - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", CONFIGS)
def test_tiles_equal_the_whole(name: str) -> None:
    """Sizes that tiles do not divide, tiles smaller than their margins, and one larger than all."""
    tokenizer, rng = scrambled(CONFIGS[name]), random.Random(name)
    unit = tokenizer.config.spatial_compression
    height, width = (unit * rng.randint(3, 5) for _ in range(2))
    batch = 2 if "groups" in name else 1
    ramp = torch.linspace(0, 1, width)  # frames whose parts differ, so that local norms would show
    video = (torch.rand(batch, 3, 9, height, width) * ramp + ramp) - 1
    wanted = tokenizer.encode(video)
    decoded = tokenizer.decode(wanted)
    for tile in (unit, 10 * unit) if name == "cv8x8x8" else (2 * unit,):
        assert error(tokenizer.encode(video, tile=tile), wanted) < 1e-5
        assert error(tokenizer.decode(wanted, tile=tile), decoded) < 1e-5


def test_statistics_of_the_whole_frame_matter() -> None:
    """Tiles that were normalised by themselves would differ: the test above can fail."""
    tokenizer = scrambled(CLIP)
    video = torch.rand(1, 3, 9, 64, 64) * torch.linspace(0, 2, 64) - 1
    whole, alone = tokenizer.encode(video), tokenizer.encode(video[..., :32])
    assert error(alone[..., :1], whole[..., :1]) > 1e-3


def test_discrete_tokens_and_cropped_clips() -> None:
    tokenizer = scrambled(replace(CLIP, latent_channels=2, fsq_levels=(8, 5)))
    video = torch.rand(1, 3, 9, 30, 40) * 2 - 1
    indices = tokenizer.encode_indices(video, pad="replicate")
    assert torch.equal(tokenizer.encode_indices(video, pad="replicate", tile=16), indices)
    size = (9, 30, 40)
    wanted = tokenizer.decode_indices(indices, crop=size)
    assert error(tokenizer.decode_indices(indices, crop=size, tile=16), wanted) < 1e-5


def test_double_precision_is_exact_to_its_own_rounding() -> None:
    """What is left in fp32 is rounding, not an approximation."""
    tokenizer = scrambled(CLIP).double()
    video = torch.rand(1, 3, 9, 40, 48, dtype=torch.float64) * 2 - 1
    wanted = tokenizer.encode(video)
    assert error(encode_tiled(tokenizer, video, 16), wanted) < 1e-13
    assert error(decode_tiled(tokenizer, wanted, 16), tokenizer.decode(wanted)) < 1e-13


def test_the_network_is_left_as_it_was() -> None:
    tokenizer = scrambled(CLIP)
    video = torch.rand(1, 3, 1, 32, 32) * 2 - 1
    wanted = tokenizer.encode(video)
    tokenizer.encode(video, tile=16)
    with pytest.raises(RuntimeError):
        encode_tiled(tokenizer, video[:, :2], 16)  # fails on the way
    assert torch.equal(tokenizer.encode(video), wanted)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tokenizer.modules())


@pytest.mark.parametrize("tile, nearest", [(0, 8), (-8, 8), (4, 8), (30, 32), (20, 16)])
def test_bad_tiles_name_the_nearest(tile: int, nearest: int) -> None:
    tokenizer = scrambled(CLIP)
    message = f"tile={tile}: must be a multiple of 8 .nearest: {nearest}"
    with pytest.raises(ValueError, match=message):
        tokenizer.encode(torch.zeros(1, 3, 1, 8, 8), tile=tile)
    with pytest.raises(ValueError, match=message):
        tokenizer.decode(torch.zeros(1, 16, 1, 1, 1), tile=tile)
