"""What a tokenizer refuses, and padding for those who ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from openwfm.tokenizer.config import TokenizerConfig

OVERSHOOT = 1e-3  # beyond [-1, 1], as the rounding of a resize leaves it
Size = tuple[int, int, int]
Pad = Literal["replicate"] | None


def check_clip(video: Tensor, config: TokenizerConfig) -> None:
    """Raises ValueError unless ``video`` is a whole clip, b c t h w, that compresses evenly."""
    check_frames(video, config)
    config.temporal.latent_frames(video.shape[2])


def check_frames(video: Tensor, config: TokenizerConfig) -> None:
    """As `check_clip`, of any number of frames."""
    _check_type(video, config)
    multiple = config.spatial_compression
    for name, size in (("height", video.shape[3]), ("width", video.shape[4])):
        if size % multiple or size == 0:
            lower = max(multiple, size // multiple * multiple)
            raise ValueError(
                f"{name}={size}: must be a multiple of {multiple} "
                f"(nearest: {lower} or {lower + multiple})"
            )


def _check_type(video: Tensor, config: TokenizerConfig) -> None:
    channels = config.in_channels
    if video.ndim != 5 or video.shape[1] != channels or not video.is_floating_point():
        hint = "" if video.dtype != torch.uint8 else "; bytes become that by x / 127.5 - 1"
        raise ValueError(
            f"video: {video.dtype} of shape {tuple(video.shape)}: "
            f"must be floating point b {channels} t h w in [-1, 1]{hint}"
        )


def check_dtype(name: str, x: Tensor, weights: Tensor) -> None:
    """Raises ValueError unless ``x`` has the type of the weights, or autocast chooses it."""
    if x.dtype != weights.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"{name}: {x.dtype}: must be {weights.dtype}, as the weights are")


def check_range(video: Tensor) -> None:
    """Raises ValueError for values that are not finite or outside [-1, 1]."""
    if not video.numel():
        return
    low, high = (float(value) for value in video.detach().aminmax())
    if not (low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT):
        check_finite("video", video)
        raise ValueError(f"video: values from {low:.4g} to {high:.4g}: must be in [-1, 1]")


def check_finite(name: str, x: Tensor) -> None:
    finite = torch.isfinite(x)
    if not finite.all():
        first = tuple(int(index) for index in (~finite).nonzero()[0])
        raise ValueError(
            f"{name}: {int((~finite).sum())} of {x.numel()} values are NaN or infinite "
            f"(first at {first}): must be finite"
        )


def check_latents(latents: Tensor, config: TokenizerConfig) -> None:
    """Raises ValueError unless ``latents`` are finite b z f y x, each at least 1."""
    channels = config.latent_channels
    if latents.ndim != 5 or latents.shape[1] != channels or not latents.is_floating_point():
        raise ValueError(
            f"latents: {latents.dtype} of shape {tuple(latents.shape)}: "
            f"must be floating point b {channels} f y x"
        )
    if 0 in latents.shape[2:]:
        raise ValueError(f"latents: shape {tuple(latents.shape)}: f, y, x must be at least 1")
    check_finite("latents", latents)


def check_indices(indices: Tensor, config: TokenizerConfig) -> None:
    """Raises ValueError unless ``indices`` are b f y x integers from 0 to num_codes - 1."""
    if indices.ndim != 4 or indices.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"indices: {indices.dtype} of shape {tuple(indices.shape)}: "
            "must be int32 or int64 b f y x"
        )
    assert config.num_codes is not None
    wrong = ((indices < 0) | (indices >= config.num_codes)).nonzero()
    if len(wrong):
        where = tuple(int(index) for index in wrong[0])
        value, last = int(indices[where]), config.num_codes - 1
        raise ValueError(
            f"indices: {value} at {where} ({len(wrong)} such): must be from 0 to {last} "
            f"(nearest: {min(max(value, 0), last)})"
        )


def check_pad(pad: str | None) -> None:
    if pad not in (None, "replicate"):
        raise ValueError(f"pad={pad}: must be replicate or None")


def pad_clip(
    video: Float[Tensor, "b c t h w"], config: TokenizerConfig, pad: Pad
) -> Float[Tensor, "b c t y x"]:
    """Repeats the last frame, row and column up to the next size that compresses evenly."""
    check_pad(pad)
    if pad is None:
        return video
    video = pad_sides(video, config)
    if not video.shape[2]:
        raise ValueError(f"video: shape {tuple(video.shape)}: no frame to repeat")
    missing = -(video.shape[2] - 1) % config.temporal_compression
    return torch.cat((video, video[:, :, -1:].expand(-1, -1, missing, -1, -1)), 2)


def pad_sides(
    video: Float[Tensor, "b c t h w"], config: TokenizerConfig
) -> Float[Tensor, "b c t y x"]:
    """Repeats the last row and column up to the next multiples of the compression."""
    _check_type(video, config)
    if 0 in video.shape[3:]:
        raise ValueError(f"video: shape {tuple(video.shape)}: no row or column to repeat")
    bottom, right = (-side % config.spatial_compression for side in video.shape[3:])
    if not (bottom or right) or not video.shape[2]:
        return video
    return F.pad(video, (0, right, 0, bottom, 0, 0), mode="replicate")


def check_crop(crop: Size | None, latent_size: Sequence[int], config: TokenizerConfig) -> Size:
    """The (t, h, w) to keep of what latents (f, y, x) decode to; all of it when ``crop`` is None.

    Raises ValueError for a size that padding would not have brought to these latents.
    """
    f, y, x = latent_size
    space = config.spatial_compression
    whole = (int(config.temporal.frames(f)), y * space, x * space)
    if crop is None:
        return whole
    if len(crop) != 3:
        raise ValueError(f"crop={crop}: must be (frames, height, width)")
    names, units = ("frames", "height", "width"), (config.temporal_compression, space, space)
    for name, value, high, unit in zip(names, crop, whole, units, strict=True):
        low = max(1, high - unit + 1)
        if not low <= value <= high:
            raise ValueError(
                f"crop: {name}={value}: must be from {low} to {high}, the sizes that are padded "
                f"to these latents (nearest: {min(max(value, low), high)})"
            )
    return crop[0], crop[1], crop[2]
