"""Residual, attention and resampling blocks on channels-last activations ``b t h w c``.

Networks of images are the same blocks with ``time`` False: frames stay apart, and resampling is a
strided (or upsampled) convolution and nothing else. ``past`` carries a stream.
Source: arXiv 2501.03575, section 4.1, and the arithmetic of its release.
"""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.nn.causal import (
    FactorizedConv,
    FrameNorm,
    Past,
    PointwiseConv,
    SpatialConv,
    TemporalConv,
    at_start,
    convolve,
    frames_first,
    frames_last,
)
from openwfm.nn.derived import Derives, infers
from openwfm.nn.winograd import doubled
from openwfm.tokenizer.folding import (
    Fold,
    doubled_in_space,
    doubled_in_time,
    pooled_in_space,
    pooled_in_time,
)


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


class Resample(Derives):
    """Changes the resolution: convolutions in space and in time, and a pointwise mix at the end.

    ``hybrid`` (clips) adds each convolution to plain pooling or repetition, and mixes; without it
    (images) there is the convolution alone. All of it is linear, so inference merges pooling,
    repetition and mix into the kernels (`openwfm.tokenizer.folding`).
    """

    def __init__(
        self, channels: int, *, space: bool, time: bool, stride: int, hybrid: bool = True
    ) -> None:
        super().__init__()
        self.hybrid = hybrid
        self.space = SpatialConv(channels, channels, stride) if space else None
        self.time = TemporalConv(channels, channels, stride) if time else None
        self.mix = PointwiseConv(channels, channels) if hybrid else nn.Identity()

    def _folded(self, fold: Fold, conv: nn.Conv3d, *, last: bool) -> tuple[Tensor, ...]:
        """``fold`` of the kernel and bias of ``conv``, and of the mix where it comes ``last``."""
        mix = self.mix if last and self.hybrid else None
        sources = (
            (conv.weight, conv.bias)
            if mix is None
            else (conv.weight, conv.bias, mix.weight, mix.bias)
        )
        name = fold.__name__ + (" alone" if not self.hybrid else " mixed" if last else "")
        return self.derived(name, partial(fold, hybrid=self.hybrid), *sources)


class Downsample(Resample):
    """Strided convolution plus average pool, in space, then in time; a pointwise mix at the end.

    In time one copy of the first frame is put in front, so that 2m + 1 frames become m + 1; frames
    that continue a clip come in pairs.
    """

    def __init__(self, channels: int, space: bool, time: bool, hybrid: bool = True) -> None:
        super().__init__(channels, space=space, time=time, stride=2, hybrid=hybrid)

    def forward(
        self, x: Float[Tensor, "b t h w c"], past: Past | None = None
    ) -> Float[Tensor, "b f y x c"]:
        if infers(self, x):
            return self._infer(x, past)
        if self.space is not None:
            y = self.space(x)
            x = y + frames_last(F.avg_pool2d(frames_first(x), 2), len(x)) if self.hybrid else y
        if self.time is not None:
            x = torch.cat((x[:, :1], x), 1) if at_start(past) else x
            x = self.time(x, past) + (x[:, 0::2] + x[:, 1::2]) / 2
        return self.mix(x)

    def _infer(
        self, x: Float[Tensor, "b t h w c"], past: Past | None
    ) -> Float[Tensor, "b f y x c"]:
        if self.space is not None:
            weight, bias = self._folded(pooled_in_space, self.space, last=self.time is None)
            x = convolve(x, weight, bias, 2)
        if self.time is not None:
            taps, bias = self._folded(pooled_in_time, self.time, last=True)
            x = torch.cat((x[:, :1], x), 1) if at_start(past) else x
            x = self.time.infer(x, past, taps, bias)
        return x


class Upsample(Resample):
    """Nearest neighbour plus a convolution of it, in time, then in space; a pointwise mix.

    In time each frame is doubled and the very first result dropped, so that t frames become 2t - 1.
    """

    def __init__(self, channels: int, space: bool, time: bool, hybrid: bool = True) -> None:
        super().__init__(channels, space=space, time=time, stride=1, hybrid=hybrid)

    def forward(
        self, x: Float[Tensor, "b f y x c"], past: Past | None = None
    ) -> Float[Tensor, "b t h w c"]:
        if infers(self, x):
            return self._infer(x, past)
        if self.time is not None:
            x = x.repeat_interleave(2, 1)[:, 1 if at_start(past) else 0 :]
            x = x + self.time(x, past)
        if self.space is not None:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = x + self.space(x) if self.hybrid else self.space(x)
        return self.mix(x)

    def _infer(
        self, x: Float[Tensor, "b f y x c"], past: Past | None
    ) -> Float[Tensor, "b t h w c"]:
        if self.time is not None:
            taps, bias = self._folded(doubled_in_time, self.time, last=self.space is None)
            x = self._double_frames(x, past, taps, bias)
        if self.space is not None:
            filters, bias = self._folded(doubled_in_space, self.space, last=True)
            x = doubled(x.flatten(0, 1), filters, bias).unflatten(0, x.shape[:2])
        return x

    def _double_frames(
        self,
        x: Float[Tensor, "b f h w c"],
        past: Past | None,
        taps: Float[Tensor, "3 c d"],
        bias: Tensor,
    ) -> Float[Tensor, "b t h w d"]:
        """Two frames for each; they are s·x + a·(x₋ - x) and s·x + b·(x₋ - x), x₋ before x."""
        assert self.time is not None
        start = at_start(past)
        before = x[:, :1] if start else self.time.left(x, past)[:, -1:]
        change = torch.cat((before, x[:, :-1]), 1).sub_(x)
        if past is not None:
            past.remember(self.time, x[:, -1:].expand(-1, 2, -1, -1, -1))
        both, early, late = taps
        common = torch.addmm(bias, x.flatten(0, -2), both).view(*x.shape[:-1], -1)
        out = x.new_empty(len(x), x.shape[1], 2, *common.shape[2:])
        for target, same, step in zip(
            out.flatten(0, 1).flatten(2, 3),
            common.flatten(0, 1).flatten(1, 2),
            change.flatten(0, 1).flatten(1, 2),
            strict=True,
        ):
            torch.addmm(same, step, early, out=target[0])
            torch.addmm(same, step, late, out=target[1])
        return out.flatten(1, 2)[:, 1 if start else 0 :]


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
