"""Changes of resolution on channels-last activations ``b t h w c``.

For images a change is a strided (or upsampled) convolution and nothing else. ``past`` carries a
stream. Source: arXiv 2501.03575, section 4.1, and the arithmetic of its release.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.nn.causal import (
    Past,
    PointwiseConv,
    SpatialConv,
    TemporalConv,
    at_start,
)
from openwfm.nn.derived import Derives, infers
from openwfm.nn.direct import convolve, frames_first, frames_last
from openwfm.nn.winograd import doubled
from openwfm.tokenizer.folding import (
    Fold,
    doubled_in_space,
    doubled_in_time,
    pooled_in_space,
    pooled_in_time,
)


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
