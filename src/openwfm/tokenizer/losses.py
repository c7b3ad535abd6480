"""Terms of the reconstruction objective and its metric: pure functions and one frozen module."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from openwfm.tokenizer.features import EfficientNetFeatures, load_backbone


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


class PerceptualDistance(nn.Module):
    """Distance of unit-length features of a frozen EfficientNet-Lite0, averaged over positions.

    The form is that of LPIPS (arXiv 1801.03924, equation 1) with all channel weights 1, summed over
    four depths; the backbone is not VGG, so values do not compare with published LPIPS.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = EfficientNetFeatures(load_backbone())

    def forward(
        self, reconstruction: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, ""]:
        """Gradients flow to ``reconstruction`` only. Sides must be multiples of 16."""
        with torch.no_grad():
            wanted = self.features(target)
        total = reconstruction.new_zeros(())
        for ours, theirs in zip(self.features(reconstruction), wanted, strict=True):
            difference = F.normalize(ours, dim=1) - F.normalize(theirs, dim=1)
            total = total + difference.square().sum(1).mean()
        return total
