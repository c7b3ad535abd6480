"""Causal convolutions and per-frame normalisation on channels-last activations ``b t h w c``.

Every layer keeps its parameters in the shape of a 3D convolution ``o i t h w``, but computes with a
2D one on a free view of the memory: time folds into the batch for 1×3×3 kernels, rows and columns
fold together for 3×1×1 kernels. Measured forward + backward on one Zen 3 thread, 64 channels,
(8, 5, 16, 16): 3×1×1 takes 31 ms so, 35 ms as a contiguous conv3d, 41 ms as a channels-last conv3d
and 36-38 ms as shifted matrix products.

A stream hands every layer a `Past` and gives the clip chunk by chunk; the outputs, put together,
are those of the whole clip.

Inference (`openwfm.nn.derived.infers`) computes the same sums with fewer operations: wide 1×3×3
kernels as F(2×2, 3×3), 3×1×1 kernels as matrix products that add up in place, without a copy of the
clip that has two more frames.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.nn.derived import Derives, infers
from openwfm.nn.direct import convolve, frames_first, frames_last, laid_out
from openwfm.nn.winograd import pays, winograd, winograd_filters

SMALL = 2**18  # numbers in a clip that is cheaper to copy than to multiply frame by frame


class Past:
    """What the causal layers of a stream remember of the chunks before this one.

    ``started`` is False during the first chunk; who feeds the chunks sets it afterwards.
    """

    def __init__(self) -> None:
        self.started = False
        self._tensors: dict[nn.Module, tuple[Tensor, ...]] = {}

    def recall(self, layer: nn.Module) -> tuple[Tensor, ...] | None:
        return self._tensors.get(layer)

    def remember(self, layer: nn.Module, *tensors: Tensor) -> None:
        """Copies, so that the memory of the chunk they are views of is free to go.

        They overwrite what was recalled where they fit: use that before.
        """
        old = self._tensors.get(layer, ())
        same = len(old) == len(tensors) and not torch.is_grad_enabled()
        if same and all(fits(a, b) for a, b in zip(old, tensors, strict=True)):
            for target, tensor in zip(old, tensors, strict=True):
                target.copy_(tensor)
        else:
            self._tensors[layer] = tuple(tensor.clone() for tensor in tensors)

    @property
    def num_elements(self) -> int:
        """Numbers remembered by all layers together."""
        return sum(t.numel() for tensors in self._tensors.values() for t in tensors)


def fits(old: Tensor, new: Tensor) -> bool:
    """Whether ``new`` may be written over ``old``."""
    locked = old.is_inference() and not torch.is_inference_mode_enabled()
    return not (old.requires_grad or locked) and old.shape == new.shape and old.dtype == new.dtype


def at_start(past: Past | None) -> bool:
    """Whether the frames at hand begin the clip: a whole clip, or the first chunk of a stream."""
    return past is None or not past.started


def add_frames(out: Float[Tensor, "j p d"], x: Float[Tensor, "j p c"], tap: Tensor) -> None:
    """``out`` += ``x`` @ ``tap``, in one product where memory allows, else frame by frame."""
    if out.is_contiguous() and x.is_contiguous():
        out.flatten(0, 1).addmm_(x.flatten(0, 1), tap)
        return
    for target, frame in zip(out, x, strict=True):
        target.addmm_(frame, tap)


def add_taps(
    out: Float[Tensor, "b j h w d"],
    left: Float[Tensor, "b l h w c"],
    x: Float[Tensor, "b t h w c"],
    taps: Float[Tensor, "k c d"],
    stride: int,
) -> None:
    """``out`` += the convolution in time of ``left`` and ``x``, one after the other."""
    b, num_left = len(x), left.shape[1]
    if stride == 1 and x[0].numel() <= SMALL:
        pixels, matrices = x.shape[2] * x.shape[3], taps.unbind()
        joined = torch.cat((left, x), 1).view(b, -1, x.shape[4])
        for rows, target in zip(
            joined.unbind(), out.view(b, -1, out.shape[4]).unbind(), strict=True
        ):
            for k, tap in enumerate(matrices):
                target.addmm_(rows.narrow(0, k * pixels, len(target)), tap)
        return
    for clip in range(b):
        target, before, frames = (part[clip].flatten(1, 2) for part in (out, left, x))
        for k, tap in enumerate(taps):
            # Outputs below `first` have this tap on a frame of `left`.
            first = min(len(target), max(0, -(-(num_left - k) // stride)))
            for j in range(first):
                target[j].addmm_(before[k + stride * j], tap)
            start = k + stride * first - num_left
            count = len(target) - first
            add_frames(target[first:], frames[start::stride][:count], tap)


def tap_matrices(weight: Float[Tensor, "d c 3 1 1"]) -> tuple[Float[Tensor, "3 c d"]]:
    """Matrices that a row of channels is multiplied with, for each frame under the kernel."""
    return (weight.flatten(2).permute(2, 1, 0).contiguous(),)


class SpatialConv(Derives, nn.Conv3d):
    """1×3×3, zero padding of one pixel. With stride 2 the padding is right and bottom only."""

    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, (1, 3, 3), (1, stride, stride))

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t y x d"]:
        weight, bias, stride = self.weight.squeeze(2), self.bias, self.stride[1]
        if not infers(self, x):
            return convolve(x, weight, bias, stride)
        if stride == 1 and pays(x.flatten(0, 1), len(weight)):
            (filters,) = self.derived("winograd", winograd_filters, weight)
            return winograd(x.flatten(0, 1), filters, bias).unflatten(0, x.shape[:2])
        (weight,) = self.derived("laid out", laid_out, weight)
        return convolve(x, weight, bias, stride)


class TemporalConv(Derives, nn.Conv3d):
    """3×1×1, causal: the first frame is repeated on the left, nothing is added on the right.

    With stride s the left padding is 3 - s frames, so that t frames become (t - s) // s + 1. Later
    chunks of a stream have the end of the chunk before there. ``residual`` is added to the result.
    """

    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, (3, 1, 1), (stride, 1, 1))

    def forward(
        self,
        x: Float[Tensor, "b t h w c"],
        past: Past | None = None,
        residual: Float[Tensor, "b f h w d"] | None = None,
    ) -> Float[Tensor, "b f h w d"]:
        if infers(self, x):
            (taps,) = self.derived("taps", tap_matrices, self.weight)
            return self.infer(x, past, taps, self.bias, residual)
        stride = self.stride[0]
        padded = torch.cat((self.left(x, past), x), 1)
        if past is not None:
            past.remember(self, padded[:, stride - 3 :])
        rows = padded.flatten(2, 3).permute(0, 3, 1, 2)
        y = F.conv2d(rows, self.weight.squeeze(-1), self.bias, (stride, 1))
        y = y.permute(0, 2, 3, 1).unflatten(2, x.shape[2:4])
        return y if residual is None else residual + y

    def left(self, x: Float[Tensor, "b t h w c"], past: Past | None) -> Float[Tensor, "b l h w c"]:
        """The frames before ``x``: what the stream remembers, or its first frame."""
        before = past.recall(self) if past is not None else None
        if before is not None:
            return before[0]
        return x[:, :1].expand(-1, 3 - self.stride[0], -1, -1, -1)

    def infer(
        self,
        x: Float[Tensor, "b t h w c"],
        past: Past | None,
        taps: Float[Tensor, "3 c d"],
        bias: Tensor,
        residual: Float[Tensor, "b f h w d"] | None = None,
    ) -> Float[Tensor, "b f h w d"]:
        """The convolution with other weights than this layer's own: those it is folded into."""
        stride, left = self.stride[0], self.left(x, past)
        if residual is None:
            count = (left.shape[1] + x.shape[1] - 3) // stride + 1
            out = bias.expand(len(x), count, *x.shape[2:4], -1).contiguous()
        else:
            out = residual + bias
        add_taps(out, left, x, taps, stride)
        if past is not None:
            past.remember(self, last_frames(left, x))
        return out


def last_frames(
    left: Float[Tensor, "b l h w c"], x: Float[Tensor, "b t h w c"]
) -> Float[Tensor, "b l h w c"]:
    """As many of the last frames as ``left`` has, of ``left`` and ``x`` one after the other."""
    count = left.shape[1]
    if x.shape[1] >= count:
        return x[:, x.shape[1] - count :]
    return torch.cat((left, x), 1)[:, -count:]


class PointwiseConv(nn.Conv3d):
    """1×1×1: a linear layer over the channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w d"]:
        return F.linear(x, self.weight.flatten(1), self.bias)


class FactorizedConv(nn.Module):
    """1×3×3 and then causal 3×1×1, nothing between them (arXiv 2501.03575, section 4.1).

    With ``time`` False, 1×3×3 alone: a network of images.
    """

    def __init__(self, in_channels: int, out_channels: int, *, time: bool = True) -> None:
        super().__init__()
        self.space = SpatialConv(in_channels, out_channels)
        self.time = TemporalConv(out_channels, out_channels) if time else None

    @property
    def last(self) -> SpatialConv | TemporalConv:
        """The convolution whose output leaves."""
        return self.space if self.time is None else self.time

    def forward(
        self,
        x: Float[Tensor, "b t h w c"],
        past: Past | None = None,
        residual: Float[Tensor, "b t h w d"] | None = None,
    ) -> Float[Tensor, "b t h w d"]:
        """The convolution; ``residual`` is added to the result."""
        x = self.space(x)
        if self.time is not None:
            return self.time(x, past, residual)
        return x if residual is None else residual + x


class FrameNorm(nn.GroupNorm):
    """Group norm with statistics over (channels of a group, h, w) of each frame: causal."""

    def __init__(self, channels: int, num_groups: int = 1) -> None:
        super().__init__(num_groups, channels, eps=1e-6)

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w c"]:
        return frames_last(super().forward(frames_first(x)), len(x))

    def activated(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w c"]:
        """The norm and then SiLU, in place where nothing asks for gradients."""
        return F.silu(self(x), inplace=infers(self, x))
