"""Shapes, causality and refusals of VideoTokenizer, and the published folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from openwfm.tokenizer import TokenizerConfig, VideoTokenizer, load_tokenizer
from openwfm.tokenizer.autoencoder import YOUNGER_FIELDS
from openwfm.weights import plain, read_weights, save_weights

CONFIGS = {
    "8x8x8": TokenizerConfig(channels=8, channels_mult=(1, 2, 2), num_res_blocks=1),
    "8x16x16": TokenizerConfig(channels=8, spatial_compression=16, num_res_blocks=1),
    "4x8x8": TokenizerConfig(channels=8, channels_mult=(1, 2), temporal_compression=4),
    "4x8x8, patch 2": TokenizerConfig(channels=8, patch_size=2, temporal_compression=4),
    "8x8x8, patch 2": TokenizerConfig(channels=8, channels_mult=(1, 1, 2, 2), patch_size=2),
    "4x4x4, groups": TokenizerConfig(
        channels=8, channels_mult=(1,), spatial_compression=4, temporal_compression=4, num_groups=4
    ),
    "8x8x8, discrete": TokenizerConfig(
        channels=8, num_res_blocks=1, latent_channels=3, fsq_levels=(64, 64, 63)
    ),
    "8x8, images": TokenizerConfig(channels=8, temporal_compression=1, num_groups=4),
}


def awake(config: TokenizerConfig) -> VideoTokenizer:
    """A tokenizer none of whose weights is zero, so that every path is seen."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config).eval()
    for parameter in tokenizer.parameters():
        if parameter.ndim == 5:
            nn.init.kaiming_uniform_(parameter, a=1.0)
    return tokenizer


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_shapes(config: TokenizerConfig, groups: int) -> None:
    tokenizer = awake(config)
    t, s = config.temporal_compression, config.spatial_compression
    video = torch.rand(2, 3, 1 + t * (groups - 1), 2 * s, 3 * s) * 2 - 1
    latents = tokenizer.encode(video)
    assert latents.shape == (2, config.latent_channels, groups, 2, 3)
    assert tokenizer.decode(latents).shape == video.shape
    assert tokenizer.temporal.frames(groups) == video.shape[2]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_nothing_looks_ahead(config: TokenizerConfig) -> None:
    """Pixels after a latent frame's last one change it by exactly 0, and so do later latents."""
    tokenizer = awake(config)
    t, s = config.temporal_compression, config.spatial_compression
    video = torch.rand(1, 3, 1 + 2 * t, 2 * s, 2 * s) * 2 - 1
    changed = video.clone()
    changed[:, :, 1 + t :] *= -1
    with torch.no_grad():
        latents, other = tokenizer.encode(video), tokenizer.encode(changed)
        assert torch.equal(latents[:, :, :2], other[:, :, :2])
        assert not torch.equal(latents[:, :, 2], other[:, :, 2])
        frames, others = tokenizer.decode(latents), tokenizer.decode(other)
    assert torch.equal(frames[:, :, : 1 + t], others[:, :, : 1 + t])
    assert not torch.equal(frames[:, :, 1 + t :], others[:, :, 1 + t :])


def test_frame_zero_is_a_clip_by_itself() -> None:
    tokenizer = awake(CONFIGS["8x8x8"])
    video = torch.rand(2, 3, 17, 32, 32) * 2 - 1
    whole = tokenizer.encode(video)[:, :, :1]
    torch.testing.assert_close(tokenizer.encode(video[:, :, :1]), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((1, 3, 16, 32, 32), r"num_frames=16: must be 1 \+ 8·n \(nearest: 9 or 17\)"),
        ((1, 3, 9, 30, 32), r"height=30: must be a multiple of 8 \(nearest: 24 or 32\)"),
        ((1, 3, 9, 32, 4), r"width=4: must be a multiple of 8 \(nearest: 8 or 16\)"),
        ((1, 3, 9, 0, 32), "height=0: must be a multiple of 8"),
        ((1, 4, 9, 32, 32), "must be floating point b 3 t h w"),
        ((3, 9, 32, 32), "must be floating point b 3 t h w"),
        ((1, 3, 0, 32, 32), "num_frames=0: must be"),
    ],
)
def test_illegal_clips_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        awake(CONFIGS["8x8x8"]).encode(torch.zeros(shape))


def test_wrong_types_are_refused() -> None:
    tokenizer = awake(CONFIGS["8x8x8"])
    with pytest.raises(ValueError, match="torch.uint8"):
        tokenizer.encode(torch.zeros(1, 3, 9, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="latents: .*b 16 f y x"):
        tokenizer.decode(torch.zeros(1, 15, 2, 4, 4))


def test_published_folder_round_trip(tmp_path: Path) -> None:
    tokenizer = awake(CONFIGS["8x8x8"])
    config = {"kind": "tokenizer", "net": plain(asdict(tokenizer.config))}
    save_weights(tmp_path, config, tokenizer.state_dict())
    loaded = load_tokenizer(tmp_path)
    assert loaded.config == tokenizer.config
    assert not loaded.training
    video = torch.rand(1, 3, 9, 16, 16)
    assert torch.equal(loaded(video), tokenizer(video))


def test_weights_older_than_a_field_still_load(tmp_path: Path) -> None:
    """Only fields that did not exist when they were published may be absent."""
    tokenizer = awake(CONFIGS["8x8x8"])
    net = plain(asdict(tokenizer.config))
    old = {name: value for name, value in net.items() if name not in YOUNGER_FIELDS}
    assert len(old) == 10
    save_weights(tmp_path, {"kind": "tokenizer", "net": old}, tokenizer.state_dict())
    loaded = load_tokenizer(tmp_path)
    assert loaded.config == tokenizer.config
    assert load_tokenizer(tmp_path, attention_window=2).config.attention_window == 2
    del old["channels"]
    save_weights(tmp_path, {"kind": "tokenizer", "net": old}, tokenizer.state_dict())
    with pytest.raises(ValueError, match="net: channels missing"):
        load_tokenizer(tmp_path)


def test_broken_folders_say_what_is_wrong(tmp_path: Path) -> None:
    tokenizer = awake(CONFIGS["8x8x8"])
    net = plain(asdict(tokenizer.config))
    tensors = tokenizer.state_dict()
    with pytest.raises(ValueError, match="no such file"):
        load_tokenizer(tmp_path)

    save_weights(tmp_path, {"kind": "tokenizer", "net": net | {"depth": 3}}, tensors)
    with pytest.raises(ValueError, match="unexpected keyword argument 'depth'"):
        load_tokenizer(tmp_path)
    save_weights(tmp_path, {"kind": "tokenizer"}, tensors)
    with pytest.raises(ValueError, match="net=None: must be the tokenizer's config"):
        load_tokenizer(tmp_path)

    save_weights(tmp_path, {"kind": "tokenizer", "net": net | {"channels": 16}}, tensors)
    with pytest.raises(ValueError, match="misshapen decoder.conv_in.space.weight"):
        load_tokenizer(tmp_path)
    fewer = {name: tensor for name, tensor in tensors.items() if "to_latents" not in name}
    save_weights(tmp_path, {"kind": "tokenizer", "net": net}, fewer)
    with pytest.raises(ValueError, match="missing to_latents.weight"):
        load_tokenizer(tmp_path)
    assert set(read_weights(tmp_path, "tokenizer")[1]) == set(fewer)
