"""Clips of many shapes in a few: scaled to fit a bucket whole, the rest filled by reflection.

The longest side decides the scale, so that nothing a caption speaks of is cut off; a mask says
which pixels were filled in (arXiv 2501.03575, section 5.1.3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from openwfm.data.windows import FrameCache, Size, Window


def nearest_size(size: Size, sizes: Sequence[Size]) -> Size:
    """The one of ``sizes`` whose aspect ratio is nearest, as a factor; the earlier of two."""
    aspect = math.log(size[1] / size[0])
    return min(sizes, key=lambda other: abs(math.log(other[1] / other[0]) - aspect))


def inner_size(size: Size, bucket: Size) -> Size:
    """Rows and columns that a picture of ``size`` takes in ``bucket``: the largest that fit."""
    scale = min(bucket[0] / size[0], bucket[1] / size[1])
    rows, columns = (max(1, min(b, round(s * scale))) for s, b in zip(size, bucket, strict=True))
    return rows, columns


def margins(size: Size, bucket: Size) -> tuple[int, int, int, int]:
    """Filled pixels left, right, above and below a picture of ``size``, which is in the middle."""
    (rows, columns), (high, wide) = inner_size(size, bucket), bucket
    left, top = (wide - columns) // 2, (high - rows) // 2
    return left, wide - columns - left, top, high - rows - top


def into_bucket(video: UInt8[np.ndarray, "t h w c"], bucket: Size) -> UInt8[np.ndarray, "t y x c"]:
    """``video`` of the bucket's size: scaled, and mirrored at its edges as often as it takes."""
    size = (video.shape[1], video.shape[2])
    inner, (left, right, top, bottom) = inner_size(size, bucket), margins(size, bucket)
    scaled = video if inner == size else _resize(video, inner)
    rows = _mirrored(inner[0], top, bottom)
    return np.ascontiguousarray(scaled[:, rows][:, :, _mirrored(inner[1], left, right)])


def padding_mask(size: Size, bucket: Size) -> Float[Tensor, "1 y x"]:
    """1 where a picture of ``size`` does not reach, 0 where it is."""
    return F.pad(torch.zeros(1, *inner_size(size, bucket)), margins(size, bucket), value=1.0)


class PaddedFrames(FrameCache):
    """The same frames, each clip in its bucket."""

    def __init__(self, own: FrameCache, buckets: Sequence[Size]) -> None:
        super().__init__(own.spans, lambda: own.frames)
        self.buckets = tuple(buckets)

    @property
    def sizes(self) -> dict[Size, int]:
        counts = Counter(self.size(key) for key in self.spans)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def size(self, key: str) -> Size:
        return nearest_size(super().size(key), self.buckets)

    def mask(self, key: str) -> Float[Tensor, "1 h w"]:
        return padding_mask(super().size(key), self.size(key))

    def read(self, window: Window) -> UInt8[np.ndarray, "t h w c"]:
        return into_bucket(super().read(window), self.size(window.key))


def _mirrored(count: int, before: int, after: int) -> np.ndarray:
    """Indices into ``count`` pixels, continued on both sides; the edge's own is not repeated."""
    place = np.abs(np.arange(-before, count + after)) % max(1, 2 * (count - 1))
    return np.minimum(place, 2 * (count - 1) - place)


def _resize(video: np.ndarray, size: Size) -> np.ndarray:
    """Area when the picture shrinks, bilinear when it grows; nothing is cropped."""
    frames = rearrange(torch.from_numpy(video).float(), "t h w c -> t c h w")
    if size[0] * size[1] < video.shape[1] * video.shape[2]:
        frames = F.interpolate(frames, size, mode="area")
    else:
        frames = F.interpolate(frames, size, mode="bilinear", align_corners=False)
    scaled: np.ndarray = rearrange(frames.round().to(torch.uint8), "t c h w -> t h w c").numpy()
    return scaled
