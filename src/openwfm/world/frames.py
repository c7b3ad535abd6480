"""From frames that a user has to frames that a model takes."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openwfm.shapes import Temporal


def condition_latents(
    available: int, *, num_frames: int, max_latents: int, temporal: Temporal
) -> int:
    """How many latent frames the last of ``available`` pixel frames fill: as many as fit.

    n latents stand for 1 + ratio·(n - 1) frames. At least one latent frame is left to generate.
    Raises ValueError when nothing fits.
    """
    total = int(temporal.latent_frames(num_frames))
    limit = min(max_latents, total - 1)
    if max_latents < 1:
        raise ValueError("frames: this world takes none (conditioner.max_frames=0)")
    if limit < 1:
        raise ValueError(
            f"num_frames={num_frames}: nothing is left to generate after a condition frame; "
            f"must be at least {int(temporal.frames(2))}"
        )
    if available < 1:
        raise ValueError("frames: holds 0 frames; must hold at least 1")
    fitting = 1 + (available - 1) // temporal.ratio
    return min(limit, fitting)


def fit_size(video: Float[Tensor, "c t h w"], size: tuple[int, int]) -> Float[Tensor, "c t y x"]:
    """Centre-crop to the aspect ratio of ``size``, then resize (area down, bilinear up)."""
    height, width = video.shape[-2:]
    if (height, width) == size:
        return video
    scale = min(height / size[0], width / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    cropped = video[..., top : top + rows, left : left + columns]
    frames = rearrange(cropped, "c t h w -> t c h w")
    if scale >= 1:
        resized = F.interpolate(frames, size, mode="area")
    else:
        resized = F.interpolate(frames, size, mode="bilinear", align_corners=False)
    return rearrange(resized, "t c h w -> c t h w")
