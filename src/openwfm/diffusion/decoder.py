"""Decoding tokens by diffusion: windows that overlap in latent frames.

Source: arXiv 2501.03575, section 5.2.6. The release decodes windows of 8 latent frames, two of
which they share, but blends two *pixel* frames, which do not show the same moment. Here shared
latent frames start from the same noise and are blended as latents, before any pixel is made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.model import DiffusionWorldModel


def cut(frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Beginnings and ends of windows over ``frames`` latent frames; the last ends with them."""
    if not 0 <= overlap < window:
        raise ValueError(f"overlap={overlap}: must be at least 0 and below window={window}")
    if frames <= window:
        return [(0, frames)]
    starts = list(range(0, frames - window, window - overlap)) + [frames - window]
    return [(start, start + window) for start in starts]


def ramps(parts: Sequence[tuple[int, int]], frames: int) -> Float[Tensor, "w f"]:
    """How much each window counts in each frame: linear where windows overlap, in sum 1."""
    weights = torch.zeros(len(parts), frames)
    for number, (start, stop) in enumerate(parts):
        place = torch.arange(start, stop)
        before = parts[number - 1][1] if number else start
        after = parts[number + 1][0] if number + 1 < len(parts) else stop
        up = (place - start + 1) / (before - start + 1)
        down = (stop - place) / (stop - after + 1)
        weights[number, start:stop] = torch.minimum(up, down).clamp(max=1)
    return weights / weights.sum(0)


@torch.no_grad()
def decode_codes(
    model: DiffusionWorldModel,
    codes: Int[Tensor, "b f r c"],
    *,
    size: Sequence[int],
    fps: Float[Tensor, " b"],
    seed: int,
    text: Float[Tensor, "b n d"] | None = None,
    sampler: SamplerConfig | None = None,
    window: int = 8,
    overlap: int = 2,
) -> Float[Tensor, "b z f y x"]:
    """Raw latents of ``size`` (rows, columns) that show what the tokens ``codes`` say.

    Sample i depends on (seed, i) alone. Raises ValueError for a model without ``net.codebook``,
    windows that do not fit, and guidance of a model trained without dropout.
    """
    model.check_statistics()
    if not model.net.config.codebook:
        raise ValueError("net.codebook=0: this model decodes no tokens")
    sampler = sampler or model.sampler
    b, f = codes.shape[:2]
    noise = model.noise(seed, "sample/initial", b, (model.net.config.in_channels, f, *size))
    parts = cut(f, window, overlap)
    weights = ramps(parts, f).to(noise.device)
    made = torch.zeros_like(noise)
    for weight, (start, stop) in zip(weights, parts, strict=True):
        here = noise[:, :, start:stop]
        filled = model.conditioner.sampling(
            None, here, sampler.condition_sigma, text=text, fps=fps, codes=codes[:, start:stop]
        )
        part = model.walk(here, filled, sampler, text=text)
        made[:, :, start:stop] += weight[None, None, start:stop, None, None] * part
    return model.denormalise(made)
