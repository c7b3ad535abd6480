"""Residual, attention and resampling blocks on channels-last activations ``b t h w c``.

Source: arXiv 2501.03575, section 4.1, and the arithmetic of its release.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.nn.causal import (
    FactorizedConv,
    FrameNorm,
    PointwiseConv,
    SpatialConv,
    TemporalConv,
    frames_first,
    frames_last,
)


class ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(in_channels, num_groups)
        self.conv1 = FactorizedConv(in_channels, out_channels)
        self.norm2 = FrameNorm(out_channels, num_groups)
        self.conv2 = FactorizedConv(out_channels, out_channels)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else PointwiseConv(in_channels, out_channels)

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w d"]:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class Attention(nn.Module):
    """One head as wide as the channels; subclasses say which positions attend to which."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(channels, num_groups)
        self.query = PointwiseConv(channels, channels)
        self.key = PointwiseConv(channels, channels)
        self.value = PointwiseConv(channels, channels)
        self.output = PointwiseConv(channels, channels)

    def attend(
        self,
        query: Float[Tensor, "b t h w c"],
        key: Float[Tensor, "b t h w c"],
        value: Float[Tensor, "b t h w c"],
    ) -> Float[Tensor, "b t h w c"]:
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w c"]:
        y = self.norm(x)
        return x + self.output(self.attend(self.query(y), self.key(y), self.value(y)))


class SpatialAttention(Attention):
    """Within each frame, every position to every position."""

    def attend(
        self,
        query: Float[Tensor, "b t h w c"],
        key: Float[Tensor, "b t h w c"],
        value: Float[Tensor, "b t h w c"],
    ) -> Float[Tensor, "b t h w c"]:
        q, k, v = (rearrange(x, "b t h w c -> b t (h w) c") for x in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v).view_as(query)


class TemporalAttention(Attention):
    """At each position, every frame to itself and the frames before it."""

    def attend(
        self,
        query: Float[Tensor, "b t h w c"],
        key: Float[Tensor, "b t h w c"],
        value: Float[Tensor, "b t h w c"],
    ) -> Float[Tensor, "b t h w c"]:
        q, k, v = (rearrange(x, "b t h w c -> b (h w) t c") for x in (query, key, value))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return rearrange(y, "b (h w) t c -> b t h w c", h=query.shape[2])


class Middle(nn.Module):
    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, num_groups)
        self.attention_space = SpatialAttention(channels, num_groups)
        self.attention_time = TemporalAttention(channels, num_groups)
        self.block2 = ResidualBlock(channels, channels, num_groups)

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w c"]:
        return self.block2(self.attention_time(self.attention_space(self.block1(x))))


class Downsample(nn.Module):
    """Strided convolution plus average pool, in space, then in time; a pointwise mix at the end.

    In time one copy of the first frame is put in front, so that 2m + 1 frames become m + 1.
    """

    def __init__(self, channels: int, space: bool, time: bool) -> None:
        super().__init__()
        self.space = SpatialConv(channels, channels, stride=2) if space else None
        self.time = TemporalConv(channels, channels, stride=2) if time else None
        self.mix = PointwiseConv(channels, channels)

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b f y x c"]:
        if self.space is not None:
            x = self.space(x) + frames_last(F.avg_pool2d(frames_first(x), 2), len(x))
        if self.time is not None:
            x = torch.cat((x[:, :1], x), 1)
            x = self.time(x) + (x[:, 0::2] + x[:, 1::2]) / 2
        return self.mix(x)


class Upsample(nn.Module):
    """Nearest neighbour plus a convolution of it, in time, then in space; a pointwise mix.

    In time each frame is doubled and the first result dropped, so that t frames become 2t - 1.
    """

    def __init__(self, channels: int, space: bool, time: bool) -> None:
        super().__init__()
        self.time = TemporalConv(channels, channels) if time else None
        self.space = SpatialConv(channels, channels) if space else None
        self.mix = PointwiseConv(channels, channels)

    def forward(self, x: Float[Tensor, "b f y x c"]) -> Float[Tensor, "b t h w c"]:
        if self.time is not None:
            x = x.repeat_interleave(2, 1)[:, 1:]
            x = x + self.time(x)
        if self.space is not None:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = x + self.space(x)
        return self.mix(x)


class Level(nn.Module):
    """Residual blocks at one width and then, perhaps, a change of resolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        num_groups: int,
        resample: Downsample | Upsample | None,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * (num_blocks - 1)
        self.blocks = nn.ModuleList(ResidualBlock(w, out_channels, num_groups) for w in widths)
        self.resample = resample

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b f y x d"]:
        for block in self.blocks:
            x = block(x)
        return x if self.resample is None else self.resample(x)
