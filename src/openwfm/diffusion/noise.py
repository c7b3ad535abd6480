"""Noise levels: the training distribution and the sampling grid; pure functions."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from openwfm.diffusion.config import EdmConfig


def log_normal(
    count: int, *, p_mean: float, p_std: float, generator: torch.Generator
) -> Float[Tensor, " b"]:
    """sigma with ln(sigma) ~ Normal(p_mean, p_std²) (EDM, arXiv 2206.00364, table 1); unclamped."""
    return (p_mean + p_std * torch.randn(count, generator=generator)).exp()


def frame_factor(num_latent_frames: int) -> float:
    """Square root of the number of frames of the batch at hand: frames are redundant, so the
    same noise per frame hides less of a long clip (arXiv 2501.03575, section 5.1.1)."""
    return math.sqrt(num_latent_frames)


def training_sigma(
    config: EdmConfig, shape: torch.Size, generator: torch.Generator
) -> Float[Tensor, " b"]:
    """One noise level a sample, for latents of ``shape`` (``b z f y x``): a batch of single frames
    is one of images, which have a distribution of their own and the factor 1."""
    p_mean, p_std = config.log_normal(shape[2])
    sigma = log_normal(shape[0], p_mean=p_mean, p_std=p_std, generator=generator)
    return sigma * frame_factor(shape[2]) if config.scale_by_frames else sigma


def sigma_grid(num_points: int, *, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """``num_points`` falling noise levels from sigma_max to sigma_min (EDM, equation 5)."""
    if num_points < 2:
        return [sigma_max] * num_points
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / (num_points - 1) * (low - high)) ** rho for i in range(num_points)]
