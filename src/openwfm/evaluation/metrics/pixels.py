"""Distances between videos, per clip. Pixels are in [-1, 1] and are compared as [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

MAX_PSNR = 100.0  # of equal videos, whose true value is infinite and would swallow any mean


def psnr(
    video: Float[Tensor, "b c t h w"], target: Float[Tensor, "b c t h w"]
) -> Float[Tensor, " b"]:
    """PSNR in dB of whole clips (one mean squared error a clip), at most 100."""
    value = peak_signal_noise_ratio(
        _unit(video), _unit(target), data_range=1.0, dim=(1, 2, 3, 4), reduction="none"
    )
    return value.clamp(max=MAX_PSNR)


def frame_psnr(
    video: Float[Tensor, "b c t h w"], target: Float[Tensor, "b c t h w"]
) -> Float[Tensor, "b t"]:
    """PSNR in dB of every frame, at most 100."""
    error = reduce((_unit(video) - _unit(target)).square(), "b c t h w -> b t", "mean")
    return _decibel(error)


def frame_ssim(
    video: Float[Tensor, "b c t h w"], target: Float[Tensor, "b c t h w"]
) -> Float[Tensor, "b t"]:
    """SSIM of every frame (Gaussian window of sigma 1.5)."""
    frames, wanted = (rearrange(_unit(x), "b c t h w -> (b t) c h w") for x in (video, target))
    value = structural_similarity_index_measure(frames, wanted, data_range=1.0, reduction="none")
    assert isinstance(value, Tensor)
    return rearrange(value, "(b t) -> b t", b=len(video))


def ssim(
    video: Float[Tensor, "b c t h w"], target: Float[Tensor, "b c t h w"]
) -> Float[Tensor, " b"]:
    """Mean SSIM of a clip's frames."""
    return frame_ssim(video, target).mean(dim=1)


def moving_pixels(
    future: Float[Tensor, "b c t h w"],
    last: Float[Tensor, "b c h w"],
    *,
    threshold: float = 0.1,
) -> Bool[Tensor, "b t h w"]:
    """Pixels whose true value differs from the last condition frame, and their neighbours.

    Differs: by more than ``threshold`` (of the range [0, 1]) in some channel. Chosen by the truth,
    so that *copy last frame* is bad on them by construction: read it beside the other baselines
    and beside all pixels.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold}: must be in (0, 1)")
    change = (_unit(future) - _unit(last)[:, :, None]).abs().amax(dim=1)
    moved = (change > threshold).float()
    return F.max_pool2d(moved, kernel_size=3, stride=1, padding=1) > 0


def masked_psnr(
    video: Float[Tensor, "b c t h w"],
    target: Float[Tensor, "b c t h w"],
    mask: Bool[Tensor, "b t h w"],
) -> Float[Tensor, " b"]:
    """PSNR in dB of the masked pixels of a clip, at most 100; NaN where the mask is empty."""
    error = reduce((_unit(video) - _unit(target)).square(), "b c t h w -> b t h w", "mean")
    weight = mask.float()
    total = weight.sum(dim=(1, 2, 3))
    mean = (error * weight).sum(dim=(1, 2, 3)) / total
    return torch.where(total > 0, _decibel(mean), torch.nan)


def _unit(video: Tensor) -> Tensor:
    return video.float().add(1.0).mul(0.5)


def _decibel(error: Tensor) -> Tensor:
    return (-10.0 * torch.log10(error)).clamp(max=MAX_PSNR)
