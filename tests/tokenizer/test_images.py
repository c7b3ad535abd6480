"""Image tokenizers against a plain 2D network written from the reference's rules (1.14)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.tokenizer import TokenizerConfig, VideoTokenizer

CONFIGS = {
    "8x8": TokenizerConfig(
        channels=8, channels_mult=(1, 2, 2), temporal_compression=1, num_groups=4
    ),
    "16x16, patch 2": TokenizerConfig(
        channels=8,
        channels_mult=(2, 2, 4),
        num_res_blocks=1,
        patch_size=2,
        spatial_compression=16,
        temporal_compression=1,
        num_groups=8,
        z_channels=12,
    ),
    "4x4, one level": TokenizerConfig(
        channels=8, channels_mult=(1,), spatial_compression=4, temporal_compression=1
    ),
}


class Plain:
    """The network as functions of channels-first images; weights by our names."""

    def __init__(self, tokenizer: VideoTokenizer) -> None:
        self.config, self.weights = tokenizer.config, tokenizer.state_dict()

    def conv(self, x: Tensor, name: str, padding: int = 1, stride: int = 1) -> Tensor:
        weight = self.weights[name + ".weight"].squeeze(2)
        padding = 0 if weight.shape[-1] == 1 else padding
        return F.conv2d(x, weight, self.weights[name + ".bias"], stride, padding)

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        return F.group_norm(x, self.config.num_groups, weight, bias, 1e-6)

    def block(self, x: Tensor, name: str) -> Tensor:
        y = self.conv(F.silu(self.norm(x, name + ".norm1")), name + ".conv1.space")
        y = self.conv(F.silu(self.norm(y, name + ".norm2")), name + ".conv2.space")
        if name + ".shortcut.weight" in self.weights:
            x = self.conv(x, name + ".shortcut")
        return x + y

    def middle(self, x: Tensor, name: str) -> Tensor:
        x = self.block(x, name + ".block1")
        y = self.norm(x, name + ".attention_space.norm")
        q, k, v = (
            self.conv(y, f"{name}.attention_space.{part}").flatten(2)
            for part in ("query", "key", "value")
        )
        weights = (q.transpose(1, 2) @ k * q.shape[1] ** -0.5).softmax(-1)
        mixed = (v @ weights.transpose(1, 2)).view_as(y)
        x = x + self.conv(mixed, name + ".attention_space.output")
        return self.block(x, name + ".block2")

    def haar(self, x: Tensor) -> Tensor:
        """Bands (width bit, height bit) of 2x2 cells, level by level."""
        p = self.config.patch_size
        while p > 1:
            cells = [[x[:, :, j::2, k::2] for k in (0, 1)] for j in (0, 1)]
            x = torch.cat(
                [
                    sum((-1) ** (b_h * j + b_w * k) * cells[j][k] for j in (0, 1) for k in (0, 1))
                    / 4
                    for b_w in (0, 1)
                    for b_h in (0, 1)
                ],
                1,
            )
            p //= 2
        return x

    def inverse_haar(self, x: Tensor) -> Tensor:
        p = self.config.patch_size
        while p > 1:
            bands = x.chunk(4, 1)
            b, c, h, w = bands[0].shape
            x = x.new_empty(b, c, 2 * h, 2 * w)
            for j in (0, 1):
                for k in (0, 1):
                    x[:, :, j::2, k::2] = sum(
                        (-1) ** (b_h * j + b_w * k) * bands[2 * b_w + b_h]
                        for b_w in (0, 1)
                        for b_h in (0, 1)
                    )
            p //= 2
        return x

    def encode(self, images: Tensor) -> Tensor:
        x = self.conv(self.haar(images), "encoder.conv_in.space")
        for i in range(len(self.config.channels_mult)):
            for j in range(self.config.num_res_blocks):
                x = self.block(x, f"encoder.levels.{i}.blocks.{j}")
            if i < self.config.num_spatial:
                name = f"encoder.levels.{i}.resample.space"
                x = self.conv(F.pad(x, (0, 1, 0, 1)), name, 0, 2)
        x = F.silu(self.norm(self.middle(x, "encoder.middle"), "encoder.norm_out"))
        return self.conv(self.conv(x, "encoder.conv_out.space"), "to_latents")

    def decode(self, latents: Tensor) -> Tensor:
        x = self.conv(self.conv(latents, "from_latents"), "decoder.conv_in.space")
        x = self.middle(x, "decoder.middle")
        levels = len(self.config.channels_mult)
        for i in reversed(range(levels)):
            for j in range(self.config.num_res_blocks + 1):
                x = self.block(x, f"decoder.levels.{i}.blocks.{j}")
            if i >= levels - self.config.num_spatial:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
                x = self.conv(x, f"decoder.levels.{i}.resample.space")
        x = F.silu(self.norm(x, "decoder.norm_out"))
        return self.inverse_haar(self.conv(x, "decoder.conv_out.space"))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_equals_a_plain_2d_network(config: TokenizerConfig) -> None:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config).eval().requires_grad_(False)
    for parameter in tokenizer.parameters():
        if parameter.ndim == 5:
            nn.init.kaiming_uniform_(parameter, a=1.0)
        else:
            nn.init.normal_(parameter, 0.5, 0.3)
    video = torch.rand(2, 3, 2, 32, 48) * 2 - 1
    plain, images = Plain(tokenizer), video.transpose(1, 2).flatten(0, 1)
    wanted = plain.encode(images)
    latents = tokenizer.encode(video)
    assert latents.shape == (2, config.latent_channels, 2, *wanted.shape[2:])
    ours = latents.transpose(1, 2).flatten(0, 1)
    assert (ours - wanted).abs().max() < 1e-5 * wanted.abs().max()
    clip = tokenizer.decode(latents)
    assert clip.shape == video.shape
    wanted = plain.decode(ours)
    assert (clip.transpose(1, 2).flatten(0, 1) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    single = tokenizer.encode(video[:, :, 1:])
    torch.testing.assert_close(single, latents[:, :, 1:], rtol=1e-4, atol=1e-4)
