"""Residual and attention blocks on channels-last activations ``b t h w c``, and levels of them.

Networks of images are the same blocks with ``time`` False: frames stay apart. ``past`` carries a
stream.
Source: arXiv 2501.03575, section 4.1, and the arithmetic of its release.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.nn.causal import FactorizedConv, FrameNorm, Past, PointwiseConv
from openwfm.tokenizer.resampling import Downsample, Upsample


class ResidualBlock(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, num_groups: int, *, time: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = FrameNorm(in_channels, num_groups)
        self.conv1 = FactorizedConv(in_channels, out_channels, time=time)
        self.norm2 = FrameNorm(out_channels, num_groups)
        self.conv2 = FactorizedConv(out_channels, out_channels, time=time)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else PointwiseConv(in_channels, out_channels)

    def forward(
        self, x: Float[Tensor, "b t h w c"], past: Past | None = None
    ) -> Float[Tensor, "b t h w d"]:
        y = self.conv1(self.norm1.activated(x), past)
        y = self.norm2.activated(y)  # lets go of what it was
        return self.conv2(y, past, self.shortcut(x))


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
        past: Past | None,
    ) -> Float[Tensor, "b t h w c"]:
        raise NotImplementedError

    def forward(
        self, x: Float[Tensor, "b t h w c"], past: Past | None = None
    ) -> Float[Tensor, "b t h w c"]:
        y = self.norm(x)
        return x + self.output(self.attend(self.query(y), self.key(y), self.value(y), past))


class SpatialAttention(Attention):
    """Within each frame, every position to every position."""

    def attend(
        self,
        query: Float[Tensor, "b t h w c"],
        key: Float[Tensor, "b t h w c"],
        value: Float[Tensor, "b t h w c"],
        past: Past | None,
    ) -> Float[Tensor, "b t h w c"]:
        q, k, v = (rearrange(x, "b t h w c -> b t (h w) c") for x in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v).view_as(query)


class TemporalAttention(Attention):
    """At each position, every frame to itself and the frames before it, ``window`` of them in all.

    A stream remembers keys and values: those of ``window`` - 1 frames, or of all without a window.
    """

    def __init__(self, channels: int, num_groups: int, window: int | None = None) -> None:
        super().__init__(channels, num_groups)
        self.window = window

    def attend(
        self,
        query: Float[Tensor, "b t h w c"],
        key: Float[Tensor, "b t h w c"],
        value: Float[Tensor, "b t h w c"],
        past: Past | None,
    ) -> Float[Tensor, "b t h w c"]:
        q, k, v = (rearrange(x, "b t h w c -> b (h w) t c") for x in (query, key, value))
        before = past.recall(self) if past is not None else None
        if before is not None:
            k, v = torch.cat((before[0], k), 2), torch.cat((before[1], v), 2)
        if past is not None:
            keep = k.shape[2] if self.window is None else min(k.shape[2], self.window - 1)
            oldest = k.shape[2] - keep
            past.remember(self, k[:, :, oldest:], v[:, :, oldest:])
        count, total = q.shape[2], k.shape[2]
        if count == total and (self.window is None or self.window >= total):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mask = frame_mask(count, total, self.window, q.device)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return rearrange(y, "b (h w) t c -> b t h w c", h=query.shape[2])


def frame_mask(
    count: int, total: int, window: int | None, device: torch.device
) -> Bool[Tensor, "count total"]:
    """Which of ``total`` frames each of the last ``count`` sees: itself and those before it."""
    frame = torch.arange(total, device=device)
    age = frame[total - count :, None] - frame
    return (age >= 0) & (age < (total if window is None else window))


class Middle(nn.Module):
    def __init__(
        self, channels: int, num_groups: int, *, time: bool = True, window: int | None = None
    ) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, num_groups, time=time)
        self.attention_space = SpatialAttention(channels, num_groups)
        self.attention_time = TemporalAttention(channels, num_groups, window) if time else None
        self.block2 = ResidualBlock(channels, channels, num_groups, time=time)

    def forward(
        self, x: Float[Tensor, "b t h w c"], past: Past | None = None
    ) -> Float[Tensor, "b t h w c"]:
        x = self.attention_space(self.block1(x, past), past)
        if self.attention_time is not None:
            x = self.attention_time(x, past)
        return self.block2(x, past)


class Level(nn.Module):
    """Residual blocks at one width and then, perhaps, a change of resolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        num_groups: int,
        resample: Downsample | Upsample | None,
        *,
        time: bool = True,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * (num_blocks - 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, out_channels, num_groups, time=time) for width in widths
        )
        self.resample = resample

    def forward(
        self, x: Float[Tensor, "b t h w c"], past: Past | None = None
    ) -> Float[Tensor, "b f y x d"]:
        for block in self.blocks:
            x = block(x, past)
        return x if self.resample is None else self.resample(x, past)
