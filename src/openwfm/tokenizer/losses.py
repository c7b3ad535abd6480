"""Terms of the reconstruction objective and its metric: pure functions.

Features are tuples of maps, fine to coarse, of a frozen network (`openwfm.tokenizer.backbones`).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def l1_loss(
    reconstruction: Float[Tensor, "b c t h w"], video: Float[Tensor, "b c t h w"]
) -> Float[Tensor, ""]:
    """Mean absolute difference (arXiv 2501.03575, equation 1)."""
    return (reconstruction - video).abs().mean()


def psnr(
    reconstruction: Float[Tensor, "b c t h w"], video: Float[Tensor, "b c t h w"]
) -> Float[Tensor, " b"]:
    """Decibels for each clip, of values clamped to [-1, 1]; the peak is 2, the most 100 dB."""
    error = (reconstruction.clamp(-1, 1) - video).square().mean((1, 2, 3, 4))
    return -10 * torch.log10((error / 4).clamp_min(1e-10))


def pick_frames(
    num_clips: int, num_frames: int, count: int, generator: torch.Generator
) -> Int[Tensor, "b k"]:
    """Indices of ``count`` different frames of each clip (all of them if there are fewer)."""
    order = torch.rand(num_clips, num_frames, generator=generator).argsort(1)
    return order[:, :count]


def take_frames(
    video: Float[Tensor, "b c t h w"], indices: Int[Tensor, "b k"]
) -> Float[Tensor, "bk c h w"]:
    rows = torch.arange(len(video), device=video.device)[:, None]
    return rearrange(video[rows, :, indices.to(video.device)], "b k c h w -> (b k) c h w")


def perceptual_distance(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Distance of unit-length features, averaged over positions, summed over depths.

    The form is that of LPIPS (arXiv 1801.03924, equation 1) with all channel weights 1; where the
    backbone is not VGG, values do not compare with published LPIPS.
    """
    total = torch.zeros(())
    for left, right in zip(ours, theirs, strict=True):
        difference = F.normalize(left, dim=1) - F.normalize(right, dim=1)
        total = total.to(left) + difference.square().sum(1).mean()
    return total


def gram_matrix(features: Float[Tensor, "bk c h w"], num_clips: int) -> Float[Tensor, "b c c"]:
    """F·F^T / (k·h·w), F being the channels of a clip's k frames at all positions."""
    rows = rearrange(features, "(b k) c h w -> b c (k h w)", b=num_clips)
    return rows @ rows.transpose(1, 2) / rows.shape[2]


def gram_distance(
    ours: Iterable[Tensor], theirs: Iterable[Tensor], num_clips: int
) -> Float[Tensor, ""]:
    """Mean squared difference of Gram matrices, summed over depths.

    arXiv 2501.03575, section 4.1, in the form of its release (reference section 4.1): which
    features occur together, not where. Needs a clip's frames next to each other.
    """
    total = torch.zeros(())
    for left, right in zip(ours, theirs, strict=True):
        difference = gram_matrix(left, num_clips) - gram_matrix(right, num_clips)
        total = total.to(left) + difference.square().mean()
    return total
