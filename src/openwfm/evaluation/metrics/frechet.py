"""Fréchet distance between Gaussians fitted to features (Heusel et al. 2017, equation 6)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Moments:
    """Mean and covariance of feature vectors that come in batches; sums are fp64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | None = None
        self._outer: Tensor | None = None

    def add(self, features: Float[Tensor, "n d"]) -> None:
        values = features.detach().double().cpu()
        if self._sum is None or self._outer is None:
            width = values.shape[1]
            self._sum, self._outer = values.new_zeros(width), values.new_zeros(width, width)
        self.count += len(values)
        self._sum += values.sum(0)
        self._outer += values.T @ values

    def gaussian(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Raises ValueError for fewer than two vectors."""
        if self.count < 2 or self._sum is None or self._outer is None:
            raise ValueError(f"features: {self.count} vectors: must be at least 2")
        mean = self._sum / self.count
        covariance = (self._outer - self.count * torch.outer(mean, mean)) / (self.count - 1)
        return mean, covariance


def frechet_distance(a: Moments, b: Moments) -> float:
    """|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½), at least 0.

    Biased upwards when there are few vectors (always compare equal counts, and print the distance
    of two halves of the real ones beside it).
    """
    (mean_a, cov_a), (mean_b, cov_b) = a.gaussian(), b.gaussian()
    # tr (Σ₁Σ₂)^½ is that of the symmetric (Σ₁^½ Σ₂ Σ₁^½)^½, whose eigenvalues are real.
    root = _symmetric_root(cov_a)
    eigenvalues = torch.linalg.eigvalsh(root @ cov_b @ root)
    cross = eigenvalues.clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(0.0, float(distance))


def _symmetric_root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
