"""Mean and variance of latents that come piece by piece, per channel and latent frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

SMALLEST_STD = 1e-6  # a channel that never changes still has to be divided by something


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations of samples, fp64; ``a + b`` is of both together.

    Source: Chan, Golub and LeVeque 1979, the pairwise form of Welford's update.
    """

    count: Int[Tensor, "*s"]
    mean: Float[Tensor, "*s"]
    deviation: Float[Tensor, "*s"]

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        share = other.count.double() / count.clamp(min=1)
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * share,
            self.deviation + other.deviation + delta**2 * self.count * share,
        )

    @property
    def std(self) -> Float[Tensor, "*s"]:
        """Of the population, at least `SMALLEST_STD`."""
        return (self.deviation / self.count.clamp(min=1)).sqrt().clamp(min=SMALLEST_STD)

    def __getitem__(self, index: tuple[slice | int, ...]) -> Moments:
        return Moments(self.count[index], self.mean[index], self.deviation[index])


class RunningStatistics:
    """Latents of clips in, `Moments` per channel and latent frame out, in memory of fixed size.

    Clips may differ in length and size: a latent frame is counted where it exists.
    """

    def __init__(self) -> None:
        self._moments: Moments | None = None

    def update(self, latents: Float[Tensor, "b z f y x"]) -> None:
        """Raises ValueError for values that are not finite, or another number of channels."""
        values = latents.detach().double().permute(1, 2, 0, 3, 4).flatten(2)
        if not values.numel():
            return
        count = torch.full(values.shape[:2], values.shape[2], device=values.device)
        mean = values.mean(2)
        deviation = (values - mean[..., None]).square().sum(2)
        if not bool(torch.isfinite(deviation).all()):
            raise ValueError("latents: NaN or infinite values: must be finite")
        new = Moments(count.cpu(), mean.cpu(), deviation.cpu())
        if self._moments is None:
            self._moments = new
            return
        if len(self._moments.mean) != len(mean):
            raise ValueError(f"latents: {len(mean)} channels, before {len(self._moments.mean)}")
        frames = max(self._moments.mean.shape[1], mean.shape[1])
        self._moments = _longer(self._moments, frames) + _longer(new, frames)

    def per_frame(self) -> Moments:
        """``z f``. Raises ValueError before the first latents."""
        if self._moments is None:
            raise ValueError("latent statistics: no latents to measure")
        return self._moments

    def per_channel(self) -> Moments:
        """``z``: of all latent frames together."""
        frames = list(self._frames())
        total = frames[0]
        for frame in frames[1:]:
            total = total + frame
        return total

    def _frames(self) -> Iterator[Moments]:
        moments = self.per_frame()
        return (moments[:, frame] for frame in range(moments.mean.shape[1]))


def _longer(moments: Moments, frames: int) -> Moments:
    missing = (0, frames - moments.mean.shape[1])
    parts = (moments.count, moments.mean, moments.deviation)
    return Moments(*(torch.nn.functional.pad(part, missing) for part in parts))
